package main

import (
	"reflect"
	"strings"
	"testing"
)

func TestParseFlags(t *testing.T) {
	tests := []struct {
		args string
		want flags
	}{
		{"", flags{}},
		{"-c a -c b --config-file c", flags{files: []string{"a", "b", "c"}}},
		{"-p 1 --port 65535", flags{ports: []int{1, 65535}}},
		{"-d -v -q -h", flags{daemon: true, verbose: true, quiet: true, help: true}},
		{"--daemon --verbose --quiet --help", flags{daemon: true, verbose: true, quiet: true, help: true}},
		{"--test-config --version --tls-keylog k", flags{test: true, version: true, keyLog: "k"}},
		{"-c -d", flags{files: []string{"-d"}}},
	}
	for _, tt := range tests {
		got, err := parseFlags(strings.Fields(tt.args))
		if err != nil || !reflect.DeepEqual(got, tt.want) {
			t.Errorf("%q: %+v %v", tt.args, got, err)
		}
	}
	for args, want := range map[string]string{
		"-x":                           "Error: Unknown option '-x'.",
		"-v more":                      "Error: Unknown option 'more'.",
		"--config":                     "Error: Unknown option '--config'.",
		"--port=5":                     "Error: Unknown option '--port=5'.",
		"-c":                           "Error: -c argument given, but no config file specified.",
		"--config-file":                "Error: -c argument given, but no config file specified.",
		"-d -p":                        "Error: -p argument given, but no port specified.",
		"--port":                       "Error: -p argument given, but no port specified.",
		"--tls-keylog":                 "Error: --tls-keylog argument given, but no file specified.",
		"-p 0":                         "Error: Invalid port specified (0).",
		"-p 65536":                     "Error: Invalid port specified (65536).",
		"-p x":                         "Error: Invalid port specified (x).",
		strings.Repeat("-p 1883 ", 11): "Error: Only 10 ports can be specified on the command line.",
	} {
		if _, err := parseFlags(strings.Fields(args)); err == nil || err.Error() != want {
			t.Errorf("%q: %v", args, err)
		}
	}
}

// TestUsage has every option and command in the help text.
func TestUsage(t *testing.T) {
	var b strings.Builder
	c := &command{}
	c.usage(&b)
	const options = "-c --config-file -d --daemon -h --help -p --port -q --quiet -v --verbose " +
		"--test-config --tls-keylog --version check db passwd presub help"
	for o := range strings.FieldsSeq(options) {
		if !strings.Contains(b.String(), " "+o+" ") && !strings.Contains(b.String(), " "+o+", ") {
			t.Errorf("%s is not in the help text", o)
		}
	}
	if !strings.HasPrefix(b.String(), "mosquitto version 2.1.2\n") {
		t.Errorf("starts with %.40q", b.String())
	}
}
