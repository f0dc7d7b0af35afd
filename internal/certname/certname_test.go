package certname

import (
	"crypto/x509"
	"encoding/asn1"
	"encoding/pem"
	"os"
	"os/exec"
	"strings"
	"testing"

	"noctule/internal/testcert"
)

// openssl is a program that must be there in CI.
func openssl(t *testing.T) string {
	t.Helper()
	path, err := exec.LookPath("openssl")
	if err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatal(err)
		}
		t.Skip(err)
	}
	return path
}

// attr makes an attribute of a raw value.
func attr(t *testing.T, tag int, value string, oid ...int) attribute {
	t.Helper()
	return attribute{oid, asn1.RawValue{Tag: tag, Bytes: []byte(value)}}
}

// certificate has a subject of our making.
func certificate(t *testing.T, subject []relativeSET) *x509.Certificate {
	t.Helper()
	raw, err := asn1.Marshal(subject)
	if err != nil {
		t.Fatal(err)
	}
	return (&testcert.Authority{}).Issue(t, &x509.Certificate{RawSubject: raw}).Leaf
}

const utf8String, printable, bmp, t61 = asn1.TagUTF8String, asn1.TagPrintableString, asn1.TagBMPString, asn1.TagT61String

func subjects(t *testing.T) map[string][]relativeSET {
	cn := func(v string) attribute { return attr(t, utf8String, v, 2, 5, 4, 3) }
	all := []relativeSET{}
	for i := 4; i <= 97; i++ {
		if i < 14 || i == 15 || i == 17 || i == 20 || i >= 41 && i <= 46 || i == 65 || i == 97 {
			all = append(all, relativeSET{attr(t, utf8String, "v", 2, 5, 4, i)})
		}
	}
	all = append(all, relativeSET{attr(t, asn1.TagIA5String, "a@b", 1, 2, 840, 113549, 1, 9, 1)},
		relativeSET{attr(t, utf8String, "v", 1, 2, 840, 113549, 1, 9, 2)},
		relativeSET{attr(t, utf8String, "v", 0, 9, 2342, 19200300, 100, 1, 1)},
		relativeSET{attr(t, asn1.TagIA5String, "v", 0, 9, 2342, 19200300, 100, 1, 25)})
	for i := 1; i <= 3; i++ {
		all = append(all, relativeSET{attr(t, printable, "AT", 1, 3, 6, 1, 4, 1, 311, 60, 2, 1, i)})
	}
	return map[string][]relativeSET{
		"plain":         {{attr(t, printable, "AT", 2, 5, 4, 6)}, {attr(t, utf8String, "Org", 2, 5, 4, 10)}, {cn("me")}},
		"two in one":    {{attr(t, utf8String, "Org", 2, 5, 4, 10)}, {cn("me"), attr(t, utf8String, "unit", 2, 5, 4, 11)}},
		"two names":     {{cn("first")}, {cn("second")}},
		"special":       {{cn(`a,b+c"d\e<f>g;h=i/j`)}},
		"blanks":        {{cn("  x y  ")}, {cn(" ")}},
		"hash":          {{cn("#a#")}},
		"umlaut":        {{cn("Zoë €")}},
		"control":       {{cn("a\nb\x7F")}},
		"latin":         {{attr(t, t61, "Zo\xEB", 2, 5, 4, 3)}},
		"sixteen bits":  {{attr(t, bmp, "\x00Z\x20\xAC", 2, 5, 4, 3)}},
		"unknown":       {{attr(t, utf8String, "x", 1, 3, 6, 1, 4, 1, 99999, 1)}, {cn("me")}},
		"all there are": all,
		"empty":         {},
		"empty value":   {{cn("")}, {attr(t, utf8String, "Org", 2, 5, 4, 10)}},
	}
}

// TestSubject compares with OpenSSL.
func TestSubject(t *testing.T) {
	program := openssl(t)
	for name, s := range subjects(t) {
		cert := certificate(t, s)
		got, err := Subject(cert)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		cmd := exec.Command(program, "x509", "-noout", "-subject", "-nameopt", "RFC2253")
		cmd.Stdin = strings.NewReader(string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert.Raw})))
		out, err := cmd.CombinedOutput()
		want := strings.TrimPrefix(strings.TrimSuffix(string(out), "\n"), "subject=")
		if err != nil || got != want {
			t.Errorf("%s: %q, OpenSSL says %q %v", name, got, want, err)
		}
	}
}

func TestCommonName(t *testing.T) {
	s := subjects(t)
	s["none"] = []relativeSET{{attr(t, utf8String, "Org", 2, 5, 4, 10)}}
	s["nul"] = []relativeSET{{attr(t, utf8String, "admin\x00.example", 2, 5, 4, 3)}}
	for name, want := range map[string]string{
		"plain": "me", "two in one": "me", "two names": "first", "special": `a,b+c"d\e<f>g;h=i/j`, "umlaut": "Zoë €",
		"blanks": "  x y  ", "unknown": "me", "latin": "", "sixteen bits": "", "none": "", "nul": "", "empty": "", "empty value": "",
	} {
		got, err := CommonName(certificate(t, s[name]))
		if got != want || (err != nil) != (want == "") {
			t.Errorf("%s: %q, %v, want %q", name, got, err, want)
		}
	}
	broken := &x509.Certificate{RawSubject: []byte{0x30, 3, 1}}
	if _, err := CommonName(broken); err == nil {
		t.Error("a broken subject has a name")
	}
	if _, err := Subject(broken); err == nil {
		t.Error("a broken subject can be printed")
	}
}
