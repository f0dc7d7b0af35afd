package broker

import (
	"testing"

	"noctule/codec"
	"noctule/wsnet"
)

// TestReasonsHaveNames: they are label values, so each has its own, and every code of MQTT has one.
func TestReasonsHaveNames(t *testing.T) {
	names := map[string]bool{}
	for r := range EndReasons {
		names["end "+r.String()] = true
	}
	for r := range RefusalReasons {
		names["refused "+r.String()] = true
	}
	for r := range DropReasons {
		names["drop "+r.String()] = true
	}
	if len(names) != int(EndReasons)+int(RefusalReasons)+int(DropReasons) {
		t.Errorf("%v", names)
	}
	s := &shard{opts: &Options{}}
	for code := range 256 {
		if r := endOf(codec.Reason(code)); r >= EndReasons {
			t.Errorf("code %d: %d", code, r)
		}
		if r := s.refusalOf(&codec.Connect{}, codec.Reason(code)); r >= RefusalReasons {
			t.Errorf("code %d: %d", code, r)
		}
	}
}

func TestEndOf(t *testing.T) {
	for r, want := range map[codec.Reason]EndReason{
		codec.AdministrativeAction: EndAdministrative, codec.NotAuthorized: EndNotAuthorized,
		codec.ReceiveMaximumExceeded: EndReceiveMaximum, codec.QuotaExceeded: EndQuota,
		codec.ServerShuttingDown: EndShutdown, codec.UnspecifiedError: EndOther,
	} {
		if got := endOf(r); got != want {
			t.Errorf("%s: %s", r, got)
		}
	}
	for err, want := range map[error]EndReason{
		wsnet.ErrServerClosed: EndShutdown, wsnet.ErrProtocol: EndProtocol, wsnet.ErrInputGaveWay: EndQuota,
		wsnet.ErrPending: EndQuota, errMemory: EndLost,
	} {
		if got := endOfLoss(err); got != want {
			t.Errorf("%v: %s", err, got)
		}
	}
	if got := endOfError(errStore(codec.PUBLISH)); got != EndStore {
		t.Errorf("store: %s", got)
	}
	if r := reasonOf(errStore(codec.PUBLISH)); r != codec.QuotaExceeded {
		t.Errorf("store: %s", r)
	}
}
