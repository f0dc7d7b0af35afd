package token

import (
	"context"

	"noctule/broker/auth"
	"noctule/codec"
)

// Method is the authentication method "jwt" of MQTT 5: the Authentication Data are a token, in one step, at
// CONNECT and whenever the client has a new one (AUTH with 0x19).
type Method struct {
	tokens  *Verifier
	mapping *Mapping
}

// MethodName is the Authentication Method.
const MethodName = "jwt"

// NewMethod makes the method of a verifier and a mapping.
func NewMethod(v *Verifier, m *Mapping) *Method { return &Method{v, m} }

// Name implements auth.Method.
func (m *Method) Name() string { return MethodName }

// Begin implements auth.Method. It never challenges.
func (m *Method) Begin(ctx context.Context, l *auth.Login, data []byte) (auth.Exchange, auth.Step) {
	t, err := m.tokens.Verify(ctx, data)
	if err != nil {
		return nil, refusal(err)
	}
	s, err := m.mapping.Subject(t, l.ClientID, l.Username, l.HasUsername)
	if err != nil {
		return nil, refusal(err)
	}
	return nil, auth.Step{Pass: &auth.Pass{
		Username: s.Username, HasUsername: s.HasUsername, ClientID: s.ClientID, Kind: s.Kind, TokenID: s.ID,
		Expires: s.Expires, Rules: s.Rules, PreSubscribe: s.PreSubscribe,
	}}
}

// Keeps says that a client stays when settings are replaced: its token was good, and is not kept.
func (m *Method) Keeps(*auth.Stay, string) bool { return true }

// refusal is the step for a token that is not taken: a client may come again later if it is for want of keys.
func refusal(err error) auth.Step {
	code := codec.NotAuthorized
	if r, _ := ReasonOf(err); r == KeysUnavailable {
		code = codec.ServerUnavailable
	}
	return auth.Step{Refused: code, Why: err.Error()}
}
