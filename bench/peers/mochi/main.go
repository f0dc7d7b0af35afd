// Command mochi-peer serves MQTT with mochi-mqtt, its limits raised: mochi-peer TCP-PORT WEBSOCKET-PORT.
package main

import (
	"fmt"
	"io"
	"log"
	"log/slog"
	"math"
	"os"
	"os/signal"
	"syscall"

	mqtt "github.com/mochi-mqtt/server/v2"
	"github.com/mochi-mqtt/server/v2/hooks/auth"
	"github.com/mochi-mqtt/server/v2/listeners"
)

func main() {
	if len(os.Args) != 3 {
		fmt.Println("mochi-mqtt", mqtt.Version)
		return
	}
	limits := mqtt.NewDefaultServerCapabilities()
	// MaximumClientWritesPending stays: 64 KB of channel for each client, and enough for the scenarios.
	limits.ReceiveMaximum, limits.MaximumInflight = math.MaxUint16, math.MaxUint16
	server := mqtt.New(&mqtt.Options{Capabilities: limits, Logger: slog.New(slog.NewTextHandler(io.Discard, nil))})
	must(server.AddHook(new(auth.AllowHook), nil))
	must(server.AddListener(listeners.NewTCP(listeners.Config{ID: "tcp", Address: "127.0.0.1:" + os.Args[1]})))
	must(server.AddListener(listeners.NewWebsocket(listeners.Config{ID: "ws", Address: "127.0.0.1:" + os.Args[2]})))
	must(server.Serve())
	end := make(chan os.Signal, 1)
	signal.Notify(end, os.Interrupt, syscall.SIGTERM)
	<-end
}

func must(err error) {
	if err != nil {
		log.Fatal(err)
	}
}
