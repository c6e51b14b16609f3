package command

import (
	"context"
	"errors"
	"fmt"

	"github.com/stalkworker/stalk/resultbackend"
	"github.com/stalkworker/stalk/transports"
)

// exitUnavailable is what Celery's commands end with when nobody answers, or the broker cannot be reached.
const exitUnavailable = 69

// failed is a command that did not work; code 1.
func failed(format string, args ...any) error {
	return exitError{1, "Error: " + fmt.Sprintf(format, args...)}
}

// wrongly is a mistake on the command line.
func wrongly(format string, args ...any) error { return usageError{fmt.Errorf(format, args...)} }

// noReplies is what status, inspect and control end with when no worker answered.
var noReplies = exitError{exitUnavailable, "Error: No nodes replied within time constraint"}

// unavailable is what a command ends with when the broker, or the result store, cannot be used.
func (s *session) unavailable(err error) error {
	switch {
	case err == nil:
		return nil
	case s.c.Context.Err() != nil:
		return exitError{1, "Aborted!"}
	case errors.Is(err, resultbackend.ErrUnavailable):
		return exitError{exitUnavailable, fmt.Sprintf("Error: Could not connect to the result backend. Reason: %v", err)}
	case errors.Is(err, transports.ErrCredentials), !errors.Is(err, transports.ErrDisconnected) && !errors.Is(err, context.DeadlineExceeded):
		return exitError{exitUnavailable, fmt.Sprintf("Error: Unable to run the `%s` command. Reason: %v", s.name, err)}
	}
	return exitError{exitUnavailable, fmt.Sprintf("Error: Could not connect to the message broker. Please make sure your broker "+
		"(e.g., RabbitMQ or Redis) is running and the connection settings are correct. Reason: %v", err)}
}
