package traffic

import (
	"context"
	"fmt"
	"strings"
)

// stack is a server: how to start it and how to talk to it. In its texts {dir} stands for a directory of
// its own, {tcp} and {web} for ports it is to listen on, {program} for its program.
type stack struct {
	name    string
	program string
	ours    bool // not a package of Debian's
	start   []string
	env     []string
	files   map[string]string
	ready   string // a path that is not found until the server is ready; "": it is when it listens
	ways    []way
}

// way is a protocol spoken with a stack: a row of the tables.
type way struct {
	name string
	held bool // the server holds a request while nothing happens, and a period ends when it answers
	dial func(ctx context.Context, s settings, at places) (session, error)
	peer func(ctx context.Context, s settings, at places) (receiver, error)
}

// places is where a stack listens: host and port.
type places struct{ tcp, web string }

// Names of the rows.
const (
	viaBOSH      = "XMPP over BOSH"
	viaXMPPWeb   = "XMPP over WebSocket"
	viaMQTTWeb   = "MQTT over WebSocket"
	viaMQTT      = "MQTT over TCP"
	viaLongPolls = "long polling, JSON"
)

// stacks are those of Debian, and ours.
func stacks(noctule string) []stack {
	const mqttConf = "listener {tcp} 127.0.0.1\nallow_anonymous true\nlistener {web} 127.0.0.1\n" +
		"protocol websockets\nlog_dest stderr\nlog_type error\n"
	return []stack{
		{
			name: "prosody", program: "prosody",
			start: []string{"{program}", "-F", "--config", "{dir}/prosody.cfg.lua"},
			files: map[string]string{
				"prosody.cfg.lua":           prosodyConf,
				"localhost/accounts/u1.dat": prosodyAccount,
				"localhost/accounts/u2.dat": prosodyAccount,
			},
			ready: "/xmpp-websocket",
			ways:  xmppWays("/http-bind", "/xmpp-websocket"),
		},
		{
			name: "ejabberd", program: "erl",
			start: []string{"{program}", "-noinput", "-mnesia", "dir", `"{dir}/db"`, "-s", "ejabberd"},
			env: []string{
				"ERL_LIBS=" + ejabberdLibs, "EJABBERD_CONFIG_PATH={dir}/ejabberd.yml",
				"EJABBERD_LOG_PATH={dir}/ejabberd.log", "HOME={dir}",
			},
			files: map[string]string{"ejabberd.yml": ejabberdConf},
			ready: "/ws",
			ways:  xmppWays("/http-bind", "/ws"),
		},
		{
			name: "mosquitto", program: "mosquitto",
			start: []string{"{program}", "-c", "{dir}/mosquitto.conf"},
			files: map[string]string{
				"mosquitto.conf": mqttConf + "user root\nset_tcp_nodelay true\npersistence false\n",
			},
			ways: mqttWays(),
		},
		{
			name: "noctule", program: noctule, ours: true,
			start: []string{"{program}", "-c", "{dir}/noctule.conf"},
			files: map[string]string{"noctule.conf": mqttConf + "user root\n"},
			ways:  mqttWays(),
		},
	}
}

// ejabberdLibs is where Debian keeps ejabberd and its libraries. Its program is not used: it wants the
// daemon's user and a node with a name.
const ejabberdLibs = "/usr/lib/x86_64-linux-gnu"

const prosodyAccount = `return { ["password"] = "` + password + `"; };` + "\n"

const prosodyConf = `data_path = "{dir}"
pidfile = "{dir}/pid"
certificates = "{dir}"
modules_enabled = { "roster"; "saslauth"; "disco"; "ping"; "bosh"; "websocket" }
modules_disabled = { "s2s" }
authentication = "internal_plain"
allow_unencrypted_plain_auth = true
c2s_require_encryption = false
run_as_root = true
consider_bosh_secure = true
consider_websocket_secure = true
c2s_ports = {}
https_ports = {}
http_ports = { {web} }
http_interfaces = { "127.0.0.1" }
limits = {}
log = { error = "*console" }
VirtualHost "localhost"
`

const ejabberdConf = `hosts: [localhost]
loglevel: error
listen:
  - port: {web}
    ip: "127.0.0.1"
    module: ejabberd_http
    request_handlers:
      /http-bind: mod_bosh
      /ws: ejabberd_http_ws
auth_method: [anonymous]
anonymous_protocol: login_anon
allow_multiple_connections: true
modules:
  mod_bosh: {}
  mod_ping: {}
  mod_disco: {}
  mod_roster: {}
`

func mqttWays() []way {
	web := func(ctx context.Context, s settings, at places) (*mqtt, error) {
		return dialMQTTWeb(ctx, s, at.web)
	}
	tcp := func(ctx context.Context, s settings, at places) (*mqtt, error) {
		return dialMQTT(ctx, s, at.tcp)
	}
	return []way{mqttWay(viaMQTTWeb, web), mqttWay(viaMQTT, tcp)}
}

func mqttWay(name string, dial func(context.Context, settings, places) (*mqtt, error)) way {
	return way{
		name: name,
		dial: func(ctx context.Context, s settings, at places) (session, error) { return dial(ctx, s, at) },
		peer: func(ctx context.Context, s settings, at places) (receiver, error) {
			m, err := dial(ctx, s, at)
			if err != nil {
				return nil, err
			}
			return m, m.subscribe(ctx)
		},
	}
}

func xmppWays(bosh, web string) []way {
	peer := func(ctx context.Context, s settings, at places) (receiver, error) {
		x, err := dialXMPPWeb(ctx, s, "ws://"+at.web+web, peer)
		if err != nil {
			return nil, err
		}
		return x, x.appear(ctx)
	}
	return []way{{
		name: viaBOSH, held: true, peer: peer,
		dial: func(ctx context.Context, s settings, at places) (session, error) {
			return dialBOSH(ctx, s, at.web, bosh, sender)
		},
	}, {
		name: viaXMPPWeb, peer: peer,
		dial: func(ctx context.Context, s settings, at places) (session, error) {
			return dialXMPPWeb(ctx, s, "ws://"+at.web+web, sender)
		},
	}}
}

// fill puts directory, ports and program in.
func fill(text, dir, program string, at places) string {
	port := func(address string) string { return address[strings.LastIndexByte(address, ':')+1:] }
	return strings.NewReplacer(
		"{dir}", dir, "{program}", program, "{tcp}", port(at.tcp), "{web}", port(at.web),
	).Replace(text)
}

// line is a row's name.
func line(stack, way string) string { return fmt.Sprintf("%s, %s", way, stack) }
