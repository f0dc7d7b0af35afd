package reason

import (
	"errors"
	"io"
	"testing"

	"noctule/codec"
	"noctule/wsnet"
)

// TestReasonsHaveNames: they are label values, so each has its own, and every code of MQTT has one.
func TestReasonsHaveNames(t *testing.T) {
	names := map[string]bool{}
	for r := range Ends {
		names["end "+r.String()] = true
	}
	for r := range Refusals {
		names["refused "+r.String()] = true
	}
	for r := range Drops {
		names["drop "+r.String()] = true
	}
	if len(names) != int(Ends)+int(Refusals)+int(Drops) {
		t.Errorf("%v", names)
	}
	for code := range 256 {
		if r := EndOf(codec.Reason(code)); r >= Ends {
			t.Errorf("code %d: %d", code, r)
		}
		if r := RefusalOf(&codec.Connect{}, codec.Reason(code), 0); r >= Refusals {
			t.Errorf("code %d: %d", code, r)
		}
	}
}

func TestEndOf(t *testing.T) {
	for r, want := range map[codec.Reason]End{
		codec.AdministrativeAction: EndAdministrative, codec.NotAuthorized: EndNotAuthorized,
		codec.ReceiveMaximumExceeded: EndReceiveMaximum, codec.QuotaExceeded: EndQuota,
		codec.ServerShuttingDown: EndShutdown, codec.UnspecifiedError: EndOther,
	} {
		if got := EndOf(r); got != want {
			t.Errorf("%s: %s", r, got)
		}
	}
	for err, want := range map[error]End{
		wsnet.ErrServerClosed: EndShutdown, wsnet.ErrProtocol: EndProtocol, wsnet.ErrInputGaveWay: EndQuota,
		wsnet.ErrPending: EndQuota, io.EOF: EndLost,
	} {
		if got := EndOfLoss(err); got != want {
			t.Errorf("%v: %s", err, got)
		}
	}
	err := error(Because(&codec.Error{Reason: codec.QuotaExceeded}, EndStore))
	if EndOfError(err) != EndStore || Of(err) != codec.QuotaExceeded || EndOfError(errors.New("x")) != EndOther {
		t.Errorf("%s %s", EndOfError(err), Of(err))
	}
}

// Each loss but that of the end of the broker has words.
func TestLossText(t *testing.T) {
	for err, want := range map[error]string{
		wsnet.ErrServerClosed: "", wsnet.ErrProtocol: "protocol error", wsnet.ErrGaveWay: "server busy",
		wsnet.ErrInputGaveWay: "quota exceeded", io.EOF: "connection closed by client",
	} {
		if got := LossText(err); got != want {
			t.Errorf("%v: %s", err, got)
		}
	}
}
