package redisopt

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
)

// maxPassword bounds what is read from a password file.
const maxPassword = 4096

// credentials is what a dial asks for user and password; nil: those of the Server do.
//
// The transport option password_file stands in place of Python's credential_provider, which is a class: a file is what
// containers and secret stores can replace while programs run.
func (s Server) credentials() func(context.Context) (user, password string, err error) {
	if s.PasswordFile == "" {
		return nil
	}
	return func(context.Context) (string, string, error) {
		password, err := readPassword(s.PasswordFile)
		return s.Username, password, err
	}
}

// readPassword is the first line of a file. An error never names what is in it.
func readPassword(path string) (string, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", fmt.Errorf("redisopt: password_file: %w", err)
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, maxPassword+1))
	if err != nil {
		return "", fmt.Errorf("redisopt: password_file: %w", err)
	}
	if len(text) > maxPassword {
		return "", fmt.Errorf("redisopt: password_file %q is longer than %d bytes", path, maxPassword)
	}
	password, _, _ := strings.Cut(string(text), "\n")
	if password = strings.TrimSuffix(password, "\r"); password == "" {
		return "", errors.New("redisopt: password_file is empty")
	}
	return password, nil
}
