//go:build linux

package main

// Examples shows how.
func (connCmd) Examples() []string {
	return []string{
		"conn -u localhost:1883 -c 10000 --hold 30s --pid $(pidof noctule)",
		"conn -u wss://broker.example/mqtt -c 500 -R 100",
	}
}

// Examples shows how.
func (pubCmd) Examples() []string {
	return []string{
		"pub -c 10 -r 100 -t sensors/%i/temperature -d 1m",
		"pub -c 1 -q 1 -w 64 -L 100000 -t load/test",
	}
}

// Examples shows how.
func (subCmd) Examples() []string {
	return []string{"sub -c 5 -t 'sensors/#' -d 1m", "sub -c 100 -t '$share/workers/jobs' -q 1 -d 30s"}
}

// Examples shows how.
func (pairsCmd) Examples() []string {
	return []string{
		"p2p -c 1000 -r 5", "p2p -c 100 -q 2 -w 16 --fail 'p99>5ms' --fail 'lost>0'",
		"p2p -u ws://localhost:9001 -c 200 -r 20 --html report.html",
	}
}

// Examples shows how.
func (fanoutCmd) Examples() []string {
	return []string{"fanout --subscribers 1000 -r 50", "fanout -w 32 -q 1"}
}

// Examples shows how.
func (faninCmd) Examples() []string { return []string{"fanin --publishers 500 -r 20"} }

// Examples shows how.
func (sharedCmd) Examples() []string {
	return []string{"shared --publishers 100 --subscribers 8 -r 50 -q 1"}
}

// Examples shows how.
func (retainedCmd) Examples() []string {
	return []string{"retained -n 5000 -c 20", "retained -n 1000 -q 1 -c 5"}
}

// Examples shows how.
func (stormCmd) Examples() []string {
	return []string{
		"storm -c 10000 --return-rate 2000 --html storm.html",
		"storm -c 5000 --persistent --retries 3",
	}
}

// Examples shows how.
func (soakCmd) Examples() []string {
	return []string{"soak -d 8h --pid $(pidof noctule) --csv soak.csv"}
}

// Examples shows how.
func (slowCmd) Examples() []string {
	return []string{"slow --subscribers 200 --share 0.1 --speed 500 -r 50"}
}

// Examples shows how.
func (listsCmd) Examples() []string {
	return []string{"lists -c 1000 --topics 50 --pid $(pidof noctule)", "lists -c 1000 --by broker"}
}

// Examples shows how.
func (presetCmd) Examples() []string {
	return []string{"preset --list", "preset p2p-1k-1k-1k-1k --scale 0.1 -d 1m"}
}

// Examples shows how.
func (compareCmd) Examples() []string {
	return []string{
		"compare --only noctule,mosquitto --scenario 'QoS 1' -d 1s --rounds 1",
		"compare --html comparison.html --rounds 5", "compare --brokers mine.toml --reference emqx",
	}
}

// Examples shows how.
func (trafficCmd) Examples() []string {
	return []string{"traffic --only mosquitto,noctule", "traffic --real"}
}
