package behalf

import "testing"

// TestCodesAreWhatAnswersSay has the numbers and words of JSON, which do not change.
func TestCodesAreWhatAnswersSay(t *testing.T) {
	for _, x := range []struct {
		code   Code
		number uint8
		words  string
	}{
		{Done, 0, "Success"},
		{WrongRevision, 128, "the session's revision is another"},
		{NotAllowed, 135, "Not authorized"},
		{Unavailable, 136, "Server unavailable"},
		{Busy, 137, "Server busy"},
		{NoSession, 146, "no such session"},
		{TooMuch, 151, "too much"},
		{Malformed, 153, "Payload format invalid"},
	} {
		if uint8(x.code) != x.number || x.code.String() != x.words {
			t.Errorf("%d %s, want %d %s", x.code, x.code, x.number, x.words)
		}
	}
}
