package cli

import (
	"fmt"
	"strings"
)

// help shows how a command is used, or the program if path is empty.
func (p *Program) help(path []*Command) {
	l := &Line{p: p, path: path}
	cmd := &Command{Summary: p.Summary, Commands: p.All()}
	if len(path) > 0 {
		cmd = path[len(path)-1]
	}
	set, _ := flagsOf(cmd)
	var out strings.Builder
	fmt.Fprintf(&out, "Usage: %s%s\n\n%s", l.name(), cmd.form(), wrapped(cmd.Summary, 0))
	if cmd.Text != "" {
		for part := range strings.SplitSeq(cmd.Text, "\n\n") {
			out.WriteString("\n" + wrapped(part, 0))
		}
	}
	if len(cmd.Args) > 0 {
		out.WriteString("\nArguments:\n")
		var rows [][2]string
		for _, a := range cmd.Args {
			rows = append(rows, [2]string{a.form(), a.Help})
		}
		table(&out, rows)
	}
	if len(cmd.Commands) > 0 {
		out.WriteString("\nCommands:\n")
		var rows [][2]string
		prefix := strings.TrimPrefix(l.name()+" ", p.Name+" ")
		for i := range cmd.Commands {
			rows = append(rows, [2]string{prefix + cmd.Commands[i].Name, cmd.Commands[i].Summary})
		}
		table(&out, rows)
	}
	out.WriteString("\nFlags:\n" + set.FlagUsagesWrapped(width))
	for i, e := range cmd.Examples {
		if i == 0 {
			out.WriteString("\nExamples:\n")
		}
		fmt.Fprintf(&out, "  %s %s\n", p.Name, e)
	}
	fmt.Fprint(p.Stdout, out.String())
}

// form is what follows the name of a command in its line.
func (c *Command) form() (out string) {
	if len(c.Commands) > 0 {
		return " <command>"
	}
	open := 0
	for _, a := range c.Args {
		out += " "
		if a.Optional {
			out += "["
			open++
		}
		out += "<" + a.Name + ">"
	}
	out += strings.Repeat("]", open)
	if c.Flags != nil {
		out += " [flags]"
	}
	return out
}

// form is the argument in a line.
func (a *Arg) form() string { return "<" + a.Name + ">" }

// table writes names and what they mean, in two columns.
func table(out *strings.Builder, rows [][2]string) {
	wide := 0
	for _, r := range rows {
		wide = max(wide, len(r[0]))
	}
	for _, r := range rows {
		text := wrapped(r[1], wide+6)
		fmt.Fprintf(out, "  %-*s    %s", wide, r[0], strings.TrimLeft(text, " "))
	}
}

// wrapped is a text in lines, each with blanks before it.
func wrapped(text string, indent int) string {
	var out, line strings.Builder
	flush := func() {
		if line.Len() > 0 {
			out.WriteString(strings.Repeat(" ", indent) + line.String() + "\n")
		}
		line.Reset()
	}
	for word := range strings.FieldsSeq(text) {
		if line.Len()+1+len(word) > width-indent {
			flush()
		}
		if line.Len() > 0 {
			line.WriteByte(' ')
		}
		line.WriteString(word)
	}
	flush()
	return out.String()
}
