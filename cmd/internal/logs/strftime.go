package logs

import (
	"fmt"
	"strings"
	"time"
)

// layouts are the conversions of strftime, in the C locale, that Go has a layout for.
func layouts(c byte) string {
	const (
		letters = "YymdeHIMSpaAbBhzZFTDRcjxXr"
		forms   = "2006|06|01|02|_2|15|03|04|05|PM|Mon|Monday|Jan|January|Jan|-0700|MST|2006-01-02|" +
			"15:04:05|01/02/06|15:04|Mon Jan _2 15:04:05 2006|002|01/02/06|15:04:05|03:04:05 PM"
	)
	i := strings.IndexByte(letters, c)
	if i < 0 {
		return ""
	}
	return strings.Split(forms, "|")[i]
}

// strftime formats a time with the conversions of C; those it does not know stay as they are.
func strftime(format string, t time.Time) string {
	var b strings.Builder
	for i := 0; i < len(format); i++ {
		if format[i] != '%' || i+1 == len(format) {
			b.WriteByte(format[i])
			continue
		}
		i++
		c := format[i]
		if l := layouts(c); l != "" {
			b.WriteString(t.Format(l))
			continue
		}
		year, week := t.ISOWeek()
		weekday := int(t.Weekday())
		switch c {
		case 's':
			fmt.Fprint(&b, t.Unix())
		case 'C':
			fmt.Fprintf(&b, "%02d", t.Year()/100)
		case 'G':
			fmt.Fprint(&b, year)
		case 'g':
			fmt.Fprintf(&b, "%02d", year%100)
		case 'V':
			fmt.Fprintf(&b, "%02d", week)
		case 'U': // weeks that start on Sunday
			fmt.Fprintf(&b, "%02d", (t.YearDay()+6-weekday)/7)
		case 'W': // weeks that start on Monday
			fmt.Fprintf(&b, "%02d", (t.YearDay()+6-(weekday+6)%7)/7)
		case 'u':
			fmt.Fprint(&b, (weekday+6)%7+1)
		case 'w':
			fmt.Fprint(&b, weekday)
		case 'k':
			fmt.Fprintf(&b, "%2d", t.Hour())
		case 'l':
			fmt.Fprintf(&b, "%2d", (t.Hour()+11)%12+1)
		case 'P':
			b.WriteString(t.Format("pm"))
		case 'n', 't', '%':
			b.WriteByte(map[byte]byte{'n': '\n', 't': '\t', '%': '%'}[c])
		default:
			b.WriteByte('%')
			b.WriteByte(c)
		}
	}
	return b.String()
}
