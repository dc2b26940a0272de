package main

import (
	"context"
	"errors"
	"net"
	"strconv"
	"strings"
	"time"
)

// notify tells systemd, where it started this process with Type=notify, how things stand. The protocol is one datagram
// on the socket that NOTIFY_SOCKET names; "@" stands for the abstract namespace.
func notify(ctx context.Context, socket, state string) error {
	if socket == "" {
		return nil
	}
	if name, ok := strings.CutPrefix(socket, "@"); ok {
		socket = "\x00" + name
	}
	conn, err := (&net.Dialer{Timeout: time.Second}).DialContext(ctx, "unixgram", socket)
	if err != nil {
		return err
	}
	_, err = conn.Write([]byte(state))
	return errors.Join(err, conn.Close())
}

// watchdog tells systemd that this process is alive for as long as well says so. interval is what WATCHDOG_USEC says:
// systemd kills the process when it hears nothing for so long.
func watchdog(ctx context.Context, socket, interval string, well func(context.Context) bool) {
	usec, err := strconv.ParseInt(interval, 10, 64)
	if err != nil || usec <= 0 || socket == "" {
		return
	}
	every := time.Duration(usec) * time.Microsecond / 3
	tick := time.NewTicker(every)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			check, cancel := context.WithTimeout(ctx, every)
			if well(check) {
				_ = notify(ctx, socket, "WATCHDOG=1") // systemd acts when it hears nothing
			}
			cancel()
		}
	}
}
