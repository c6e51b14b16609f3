//go:build !unix

package worker

import "github.com/stalkworker/stalk/protocol"

func usage() protocol.Value { return "N/A" }
