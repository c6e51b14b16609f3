package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
)

// A redisConn speaks RESP as plainly as can be: commands are collected by do, sent by flush, answered by read.
type redisConn struct {
	in  *bufio.Reader
	out *bufio.Writer
}

func dialRedis(raw string) (*redisConn, error) {
	address, db, err := redisOf(raw)
	if err != nil {
		return nil, err
	}
	c, err := net.Dial("tcp", address)
	if err != nil {
		return nil, err
	}
	r := &redisConn{bufio.NewReaderSize(c, 1<<16), bufio.NewWriterSize(c, 1<<16)}
	if db != "" {
		_, err = r.ask("SELECT", db)
	}
	return r, err
}

// do puts one command into the buffer.
func (r *redisConn) do(args ...string) {
	fmt.Fprintf(r.out, "*%d\r\n", len(args))
	for _, a := range args {
		r.out.WriteByte('$')
		r.out.WriteString(strconv.Itoa(len(a)))
		r.out.WriteString("\r\n")
		r.out.WriteString(a)
		r.out.WriteString("\r\n")
	}
}

// ask is one command and its answer.
func (r *redisConn) ask(args ...string) (any, error) {
	r.do(args...)
	return r.answers(1)
}

// answers sends what was collected and returns the last of n answers.
func (r *redisConn) answers(n int) (last any, err error) {
	if err := r.out.Flush(); err != nil {
		return nil, err
	}
	for range n {
		if last, err = r.read(); err != nil {
			return nil, err
		}
	}
	return last, nil
}

// read is one answer: string, int64, []any or nil.
func (r *redisConn) read() (any, error) {
	line, err := r.in.ReadSlice('\n')
	if err != nil {
		return nil, err
	}
	if len(line) < 3 {
		return nil, errors.New("redis: short line")
	}
	text := string(line[1 : len(line)-2])
	switch line[0] {
	case '+':
		return text, nil
	case '-':
		return nil, errors.New("redis: " + text)
	}
	n, err := strconv.Atoi(text)
	if err != nil {
		return nil, err
	}
	switch {
	case line[0] == ':':
		return int64(n), nil
	case n < 0:
		return nil, nil
	case line[0] == '$':
		b := make([]byte, n+2)
		_, err := io.ReadFull(r.in, b)
		return string(b[:n]), err
	}
	out := make([]any, n)
	for i := range out {
		if out[i], err = r.read(); err != nil {
			return nil, err
		}
	}
	return out, nil
}
