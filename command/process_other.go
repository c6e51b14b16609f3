//go:build !unix

package command

import "errors"

const sigDump = nowhere

func become(string, []string, []string) error {
	return errors.New("a process cannot become another one on this system; start the worker again")
}
