package bench

import "testing"

func TestParsePerf(t *testing.T) {
	n, err := parsePerf("# started\n4711,,raw_syscalls:sys_enter,1000,100.00,,\n")
	if n != 4711 || err != nil {
		t.Errorf("%d, %v", n, err)
	}
	for _, bad := range []string{"", "no permission", "<not counted>,,raw_syscalls:sys_enter,0,0.00,,\n"} {
		if _, err := parsePerf(bad); err == nil {
			t.Errorf("%q: no error", bad)
		}
	}
}
