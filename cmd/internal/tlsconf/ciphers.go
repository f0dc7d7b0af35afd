package tlsconf

import (
	"crypto/tls"
	"fmt"
	"slices"
	"strings"
)

// suite is a cipher suite of TLS 1.2 and before as OpenSSL's lists speak of it.
type suite struct {
	id     uint16
	name   string
	traits string // words of a list that name it among others
}

// suites are those of Go's that OpenSSL still has too: no RC4, no 3DES. Their order has no meaning:
// crypto/tls has its own.
func suites() []suite {
	const (
		ecdsa  = " ECDHE kECDHE EECDH kEECDH ECDSA aECDSA "
		ecrsa  = " ECDHE kECDHE EECDH kEECDH aRSA "
		rsa    = " RSA aRSA kRSA "
		gcm128 = " AES AES128 AESGCM TLSv1.2 "
		gcm256 = " AES AES256 AESGCM TLSv1.2 "
		chacha = " CHACHA20 TLSv1.2 "
		cbc128 = " AES AES128 SHA SHA1 "
		cbc256 = " AES AES256 SHA SHA1 "
		cbcNew = " AES AES128 TLSv1.2 SHA256 "
	)
	return []suite{
		{tls.TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384, "ECDHE-ECDSA-AES256-GCM-SHA384", ecdsa + gcm256},
		{tls.TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384, "ECDHE-RSA-AES256-GCM-SHA384", ecrsa + gcm256},
		{tls.TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256, "ECDHE-ECDSA-CHACHA20-POLY1305", ecdsa + chacha},
		{tls.TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256, "ECDHE-RSA-CHACHA20-POLY1305", ecrsa + chacha},
		{tls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256, "ECDHE-ECDSA-AES128-GCM-SHA256", ecdsa + gcm128},
		{tls.TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256, "ECDHE-RSA-AES128-GCM-SHA256", ecrsa + gcm128},
		{tls.TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA256, "ECDHE-ECDSA-AES128-SHA256", ecdsa + cbcNew},
		{tls.TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA256, "ECDHE-RSA-AES128-SHA256", ecrsa + cbcNew},
		{tls.TLS_ECDHE_ECDSA_WITH_AES_256_CBC_SHA, "ECDHE-ECDSA-AES256-SHA", ecdsa + cbc256},
		{tls.TLS_ECDHE_RSA_WITH_AES_256_CBC_SHA, "ECDHE-RSA-AES256-SHA", ecrsa + cbc256},
		{tls.TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA, "ECDHE-ECDSA-AES128-SHA", ecdsa + cbc128},
		{tls.TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA, "ECDHE-RSA-AES128-SHA", ecrsa + cbc128},
		{tls.TLS_RSA_WITH_AES_256_GCM_SHA384, "AES256-GCM-SHA384", rsa + gcm256},
		{tls.TLS_RSA_WITH_AES_128_GCM_SHA256, "AES128-GCM-SHA256", rsa + gcm128},
		{tls.TLS_RSA_WITH_AES_128_CBC_SHA256, "AES128-SHA256", rsa + cbcNew},
		{tls.TLS_RSA_WITH_AES_256_CBC_SHA, "AES256-SHA", rsa + cbc256},
		{tls.TLS_RSA_WITH_AES_128_CBC_SHA, "AES128-SHA", rsa + cbc128},
	}
}

// has reports whether a word of a list names the suite: by itself, by a trait, or by several with + between.
func (s *suite) has(word string) bool {
	for part := range strings.SplitSeq(word, "+") {
		switch part {
		case s.name, "ALL", "HIGH": // all of them are HIGH
		case "DEFAULT":
			if !goes(s.id) {
				return false
			}
		default:
			if part == "" || !strings.Contains(s.traits, " "+part+" ") {
				return false
			}
		}
	}
	return true
}

// goes reports whether a suite is one that crypto/tls considers secure.
func goes(id uint16) bool {
	return slices.ContainsFunc(tls.CipherSuites(), func(s *tls.CipherSuite) bool { return s.ID == id })
}

// choose are the suites that an OpenSSL list selects. As there, words that name nothing are passed over.
func choose(list string) []uint16 {
	var chosen []uint16
	dead := map[uint16]bool{}
	separators := func(r rune) bool { return r == ':' || r == ',' || r == ' ' || r == ';' }
	for word := range strings.FieldsFuncSeq(list, separators) {
		sign := word[0]
		if sign == '@' || sign == '+' { // about the order
			continue
		}
		if sign == '!' || sign == '-' {
			word = word[1:]
		}
		for _, s := range suites() {
			at := slices.Index(chosen, s.id)
			switch {
			case !s.has(word):
			case sign == '!', sign == '-':
				dead[s.id] = dead[s.id] || sign == '!'
				if at >= 0 {
					chosen = slices.Delete(chosen, at, at+1)
				}
			case at < 0 && !dead[s.id]:
				chosen = append(chosen, s.id)
			}
		}
	}
	return chosen
}

func (m *Material) setCiphers(cfg *tls.Config) error {
	if m.Ciphers != "" {
		if cfg.CipherSuites = choose(m.Ciphers); len(cfg.CipherSuites) == 0 {
			return about("ciphers", "Unable to set TLS ciphers. Check cipher list \"%s\".\n"+
				"none of these ciphers is supported", m.Ciphers)
		}
	}
	return tls13(m.CiphersTLS13)
}

// tls13 checks a list for TLS 1.3. crypto/tls always offers its three suites, so a list that leaves one of
// them out is refused: an operator who excludes a cipher must not get it all the same.
func tls13(list string) error {
	if list == "" {
		return nil
	}
	names := strings.Split(list, ":")
	bad := func(text string) error {
		return about("ciphers_tls1.3",
			"Unable to set TLS 1.3 ciphersuites. Check cipher_tls13 list \"%s\".\n%s", list, text)
	}
	known := []string{"TLS_AES_256_GCM_SHA384", "TLS_CHACHA20_POLY1305_SHA256", "TLS_AES_128_GCM_SHA256"}
	for _, n := range names {
		if !slices.Contains(known, n) && !strings.HasPrefix(n, "TLS_AES_128_CCM_") {
			return bad(fmt.Sprintf("%q is not a ciphersuite of TLS 1.3", n))
		}
	}
	for _, k := range known {
		if !slices.Contains(names, k) {
			return bad("the ciphersuites of TLS 1.3 cannot be chosen: leave ciphers_tls1.3 out, or name " +
				strings.Join(known, ":"))
		}
	}
	return nil
}
