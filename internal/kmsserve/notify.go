// SPDX-License-Identifier: Apache-2.0

package kmsserve

import (
	"context"
	"net"
	"strconv"
	"time"
)

// A notifier tells systemd how the service is; see sd_notify(3). Without a socket it
// tells nobody.
type notifier struct {
	socket string
	// every is how often the watchdog wants to hear from the service; 0: never.
	every time.Duration
}

// newNotifier reads what systemd puts into the environment.
func newNotifier(getenv func(string) string) notifier {
	n := notifier{socket: getenv("NOTIFY_SOCKET")}
	if usec, err := strconv.ParseInt(getenv("WATCHDOG_USEC"), 10, 64); err == nil && usec > 0 {
		n.every = time.Duration(usec) * time.Microsecond / 2
	}
	return n
}

// send sends lines NAME=VALUE. That nobody listens is no fault of the service.
func (n notifier) send(lines string) {
	if n.socket == "" {
		return
	}
	name := n.socket
	if name[0] == '@' {
		name = "\x00" + name[1:] // of the abstract namespace
	}
	conn, err := net.DialUnix("unixgram", nil, &net.UnixAddr{Name: name, Net: "unixgram"})
	if err != nil {
		return
	}
	defer conn.Close()
	conn.Write([]byte(lines))
}

// watchdog says again and again that the process runs, until ctx ends. That the
// store is gone is no reason to be started anew.
func (n notifier) watchdog(ctx context.Context) {
	if n.every == 0 || n.socket == "" {
		return
	}
	ticker := time.NewTicker(n.every)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
			n.send("WATCHDOG=1")
		}
	}
}
