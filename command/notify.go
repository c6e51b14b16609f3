package command

import (
	"net"
	"strings"
	"time"
)

// notifyTimeout bounds it: while nobody reads the socket it takes a few datagrams, and then none.
const notifyTimeout = time.Second

// sdNotify sends a state to the socket of systemd's Type=notify (sd_notify(3)); an empty address is nobody.
func sdNotify(socket, state string) error {
	if socket == "" {
		return nil
	}
	if strings.HasPrefix(socket, "@") { // an abstract address
		socket = "\x00" + socket[1:]
	}
	conn, err := net.DialUnix("unixgram", nil, &net.UnixAddr{Name: socket, Net: "unixgram"})
	if err != nil {
		return err
	}
	defer conn.Close()
	if err := conn.SetWriteDeadline(time.Now().Add(notifyTimeout)); err != nil {
		return err
	}
	_, err = conn.Write([]byte(state))
	return err
}
