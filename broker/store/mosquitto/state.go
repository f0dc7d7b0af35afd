// Package mosquitto reads what Mosquitto keeps: mosquitto.db of versions 5 and 6, and the JSON that
// mosquitto_db_dump --json makes of it, which it also writes. State is in Mosquitto's words; Import puts it
// into a store, Export makes it of one.
package mosquitto

import (
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"strings"

	"noctule/codec"
)

// State is what a Mosquitto broker keeps.
type State struct {
	Messages       []Message       `json:"base-messages"`
	Clients        []Client        `json:"clients"`
	ClientMessages []ClientMessage `json:"client-messages"`
	Retained       []Retained      `json:"retained-messages"`
	Subscriptions  []Subscription  `json:"subscriptions"`

	// What servers have subscribed clients to; not Mosquitto's.
	Lists  []List  `json:"subscription-lists,omitempty"`
	Grants []Grant `json:"subscription-grants,omitempty"`
	// Denials are who may not be here.
	Denials []Denial `json:"denials,omitempty"`
}

// Message is a message, stored once however many clients it waits for.
type Message struct {
	ID         uint64     `json:"storeid"`
	Expiry     int64      `json:"expiry-time"` // Unix seconds; 0 never
	SourceID   uint16     `json:"source-mid"`  // packet id of its publisher
	SourcePort uint16     `json:"source-port"`
	QoS        uint8      `json:"qos"`
	Retain     uint8      `json:"retain"`
	Topic      string     `json:"topic"`
	Source     string     `json:"clientid"`
	Username   string     `json:"username,omitempty"`
	Payload    Payload    `json:"payload"`
	Properties Properties `json:"properties,omitempty"`
}

// Client is a persistent session.
type Client struct {
	ID        string `json:"clientid"`
	Username  string `json:"username,omitempty"`
	Expires   int64  `json:"session-expiry-time"`     // Unix seconds; 0 while it is online, or never
	Expiry    uint32 `json:"session-expiry-interval"` // seconds
	LastMID   uint16 `json:"last-mid"`
	Port      uint16 `json:"listener-port"`
	Will      *Will  `json:"will,omitempty"` // not Mosquitto's
	OfflineAt int64  `json:"offline-since,omitempty"`
}

// Will is a Will Message. Mosquitto does not keep it.
type Will struct {
	Topic      string     `json:"topic"`
	Payload    Payload    `json:"payload"`
	QoS        uint8      `json:"qos"`
	Retain     uint8      `json:"retain"`
	Delay      uint32     `json:"will-delay-interval"`
	Expiry     uint32     `json:"message-expiry-interval"`
	Properties Properties `json:"properties,omitempty"`
}

// ClientMessage is a message of one client, in either direction.
type ClientMessage struct {
	Client       string `json:"clientid"`
	Message      uint64 `json:"storeid"`
	MID          uint16 `json:"mid"`
	QoS          uint8  `json:"qos"`
	State        uint8  `json:"state"`
	RetainDup    uint8  `json:"retain-dup"` // RETAIN<<4 | DUP
	Direction    uint8  `json:"direction"`  // 0 in, 1 out
	Subscription uint32 `json:"subscription-identifier,omitempty"`
}

// States of a ClientMessage.
const (
	statePublishQoS1 = 2
	stateWaitPuback  = 3
	statePublishQoS2 = 4
	stateWaitPubrec  = 5
	stateSendPubrel  = 6
	stateWaitPubrel  = 7
	stateWaitPubcomp = 9
	stateQueued      = 11
)

// Retained says that a message is retained.
type Retained struct {
	Message uint64 `json:"storeid"`
}

// Subscription is one subscription of a client.
type Subscription struct {
	Client     string `json:"clientid"`
	Topic      string `json:"topic"` // with $share/NAME/ if it is shared
	QoS        uint8  `json:"qos"`
	Options    uint8  `json:"options"`
	Identifier uint32 `json:"identifier"`
}

// List is a list of topics that servers have subscribed clients to.
type List struct {
	Key    string      `json:"key"` // hexadecimal
	Topics []ListTopic `json:"topics"`
}

// ListTopic is one topic of a List.
type ListTopic struct {
	Topic      string `json:"topic"` // with $share/NAME/ if it is shared
	QoS        uint8  `json:"qos"`
	Options    uint8  `json:"options"`
	Identifier uint32 `json:"identifier,omitempty"`
	Expires    int64  `json:"expires,omitempty"` // Unix seconds; 0: never
}

// Grant is what one origin has subscribed a client to.
type Grant struct {
	Client      string   `json:"clientid"`
	Origin      string   `json:"origin"`
	Place       uint8    `json:"place"`
	Revision    uint64   `json:"revision"`
	List        string   `json:"list,omitempty"`     // key
	Unsubscribe string   `json:"client-unsubscribe"` // allow, sticky or deny
	Bypass      bool     `json:"bypass,omitempty"`
	PerConnect  bool     `json:"per-connect,omitempty"`
	Muted       []string `json:"unsubscribed,omitempty"`
}

// Denial is somebody who may not be here.
type Denial struct {
	Of     string `json:"of"` // token, user, client or address
	Name   string `json:"name"`
	Since  int64  `json:"since"`           // Unix seconds
	Until  int64  `json:"until,omitempty"` // Unix seconds; without it for ever
	By     string `json:"by,omitempty"`
	Reason string `json:"reason,omitempty"`
}

// policies are the values of Grant.Unsubscribe in the order of the store's.
func policies() [3]string { return [...]string{"allow", "sticky", "deny"} }

// Payload is bytes, base64 in JSON.
type Payload []byte

// MarshalJSON implements json.Marshaler: nothing is an empty text.
func (p Payload) MarshalJSON() ([]byte, error) {
	return json.Marshal(base64.StdEncoding.EncodeToString(p))
}

// UnmarshalJSON implements json.Unmarshaler.
func (p *Payload) UnmarshalJSON(b []byte) error {
	var s string
	if err := json.Unmarshal(b, &s); err != nil {
		return err
	}
	raw, err := base64.StdEncoding.DecodeString(s)
	*p = raw
	return err
}

// Properties are the properties of a message, as on the wire.
type Properties codec.Properties

// property is one of them in JSON.
type property struct {
	Identifier string `json:"identifier"`
	Name       string `json:"name,omitempty"`
	Value      any    `json:"value"`
}

// MarshalJSON implements json.Marshaler.
func (p Properties) MarshalJSON() ([]byte, error) {
	list := []property{}
	for id, v := range codec.Properties(p).All() {
		x := property{Identifier: propertyName(id)}
		switch id {
		case codec.PayloadFormat:
			x.Value = v.Num
		case codec.UserProperty:
			x.Name, x.Value = string(v.Bytes), string(v.Pair)
		case codec.CorrelationData:
			x.Value = strings.ToUpper(hex.EncodeToString(v.Bytes))
		case codec.ContentType, codec.ResponseTopic:
			x.Value = string(v.Bytes)
		default:
			continue
		}
		list = append(list, x)
	}
	return json.Marshal(list)
}

// UnmarshalJSON implements json.Unmarshaler.
func (p *Properties) UnmarshalJSON(b []byte) error {
	var list []property
	if err := json.Unmarshal(b, &list); err != nil {
		return err
	}
	out := codec.Properties{}
	for _, x := range list {
		text, isText := x.Value.(string)
		number, isNumber := x.Value.(float64)
		switch x.Identifier {
		case "payload-format-indicator":
			if !isNumber {
				return fmt.Errorf("property %s is no number", x.Identifier)
			}
			out = codec.AppendUintProperty(out, codec.PayloadFormat, uint32(number))
			continue
		case "content-type":
			out = codec.AppendBytesProperty(out, codec.ContentType, []byte(text))
		case "response-topic":
			out = codec.AppendBytesProperty(out, codec.ResponseTopic, []byte(text))
		case "user-property":
			out = codec.AppendUserProperty(out, []byte(x.Name), []byte(text))
		case "correlation-data":
			raw, err := hex.DecodeString(text)
			if err != nil {
				return fmt.Errorf("property %s: %w", x.Identifier, err)
			}
			out = codec.AppendBytesProperty(out, codec.CorrelationData, raw)
		case "message-expiry-interval", "will-delay-interval", "topic-alias", "subscription-identifier":
			continue // kept elsewhere, or of a connection
		default:
			return fmt.Errorf("property %q is not one of a message", x.Identifier)
		}
		if !isText {
			return fmt.Errorf("property %s is no text", x.Identifier)
		}
	}
	if len(out) > 0 {
		*p = Properties(out)
	}
	return nil
}

func propertyName(id codec.PropertyID) string {
	switch id {
	case codec.PayloadFormat:
		return "payload-format-indicator"
	case codec.ContentType:
		return "content-type"
	case codec.ResponseTopic:
		return "response-topic"
	case codec.CorrelationData:
		return "correlation-data"
	default:
		return "user-property"
	}
}
