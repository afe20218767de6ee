// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"sync"
	"time"
)

// benchPatience is how long a turn of requests may take.
const benchPatience = time.Minute

// A benchSender sends ready requests to one server over connections that it
// keeps.
type benchSender struct {
	connections []net.Conn
	readers     []*bufio.Reader
}

func dialBench(ctx context.Context, address string) (*benchSender, error) {
	s := &benchSender{}
	var dialer net.Dialer
	for range benchConnections {
		c, err := dialer.DialContext(ctx, "tcp", address)
		if err != nil {
			s.close()
			return nil, err
		}
		s.connections = append(s.connections, c)
		s.readers = append(s.readers, bufio.NewReader(c))
	}
	return s, nil
}

func (s *benchSender) close() {
	for _, c := range s.connections {
		c.Close()
	}
}

// A benchAnswer is one of success.
type benchAnswer struct {
	header http.Header
	body   []byte
}

// send sends each request once, on all connections at a time, and returns the first
// answer. Every answer must be one of success.
func (s *benchSender) send(requests [][]byte) (benchAnswer, error) {
	deadline := time.Now().Add(benchPatience)
	var wg sync.WaitGroup
	failures := make([]error, len(s.connections))
	var first benchAnswer
	for i, c := range s.connections {
		wg.Go(func() {
			c.SetDeadline(deadline)
			for n := i; n < len(requests); n += len(s.connections) {
				answer, err := exchange(c, s.readers[i], requests[n])
				if err != nil {
					failures[i] = err
					return
				}
				if n == 0 {
					first = answer
				}
			}
		})
	}
	wg.Wait()
	return first, errors.Join(failures...)
}

func exchange(c net.Conn, r *bufio.Reader, request []byte) (benchAnswer, error) {
	if _, err := c.Write(request); err != nil {
		return benchAnswer{}, err
	}
	response, err := http.ReadResponse(r, nil)
	if err != nil {
		return benchAnswer{}, err
	}
	body, err := io.ReadAll(response.Body)
	if err == nil && response.StatusCode != http.StatusOK {
		err = fmt.Errorf("the server answered %s: %.300s", response.Status, body)
	}
	return benchAnswer{response.Header, body}, err
}
