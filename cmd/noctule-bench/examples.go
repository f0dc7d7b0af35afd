//go:build linux

package main

import "strings"

// examples is the end of a command's --help: what one would type, after what it is for.
func examples(lines ...string) string {
	return "Examples:\n\n    noctule-bench " + strings.Join(lines, "\n    noctule-bench ")
}

// Help shows how.
func (connCmd) Help() string {
	return examples("conn -u localhost:1883 -c 10000 --hold 30s --pid $(pidof noctule)",
		"conn -u wss://broker.example/mqtt -c 500 -R 100")
}

// Help shows how.
func (pubCmd) Help() string {
	return examples("pub -c 10 -r 100 -t sensors/%i/temperature -d 1m",
		"pub -c 1 -q 1 -w 64 -L 100000 -t load/test")
}

// Help shows how.
func (subCmd) Help() string {
	return examples("sub -c 5 -t 'sensors/#' -d 1m", "sub -c 100 -t '$share/workers/jobs' -q 1 -d 30s")
}

// Help shows how.
func (pairsCmd) Help() string {
	return examples("p2p -c 1000 -r 5", "p2p -c 100 -q 2 -w 16 --fail 'p99>5ms' --fail 'lost>0'",
		"p2p -u ws://localhost:9001 -c 200 -r 20 --html report.html")
}

// Help shows how.
func (fanoutCmd) Help() string {
	return examples("fanout --subscribers 1000 -r 50", "fanout -w 32 -q 1")
}

// Help shows how.
func (faninCmd) Help() string { return examples("fanin --publishers 500 -r 20") }

// Help shows how.
func (sharedCmd) Help() string {
	return examples("shared --publishers 100 --subscribers 8 -r 50 -q 1")
}

// Help shows how.
func (retainedCmd) Help() string {
	return examples("retained -n 5000 -c 20", "retained -n 1000 -q 1 -c 5")
}

// Help shows how.
func (stormCmd) Help() string {
	return examples("storm -c 10000 --return-rate 2000 --html storm.html",
		"storm -c 5000 --persistent --retries 3")
}

// Help shows how.
func (soakCmd) Help() string { return examples("soak -d 8h --pid $(pidof noctule) --csv soak.csv") }

// Help shows how.
func (slowCmd) Help() string { return examples("slow --subscribers 200 --share 0.1 --speed 500 -r 50") }

// Help shows how.
func (listsCmd) Help() string {
	return examples("lists -c 1000 --topics 50 --pid $(pidof noctule)", "lists -c 1000 --by broker")
}

// Help shows how.
func (presetCmd) Help() string {
	return examples("preset --list", "preset p2p-1k-1k-1k-1k --scale 0.1 -d 1m")
}

// Help shows how.
func (compareCmd) Help() string {
	return examples("compare --only noctule,mosquitto --scenario 'QoS 1' -d 1s --rounds 1",
		"compare --html comparison.html --rounds 5", "compare --brokers mine.toml --reference emqx")
}

// Help shows how.
func (trafficCmd) Help() string {
	return examples("traffic --only mosquitto,noctule", "traffic --real")
}
