package broker

import "testing"

// BenchmarkMeasureMemory is what memory_limit costs, 20 times a second at most.
func BenchmarkMeasureMemory(b *testing.B) {
	var g memoryGuard
	for b.Loop() {
		g.measure()
	}
}
