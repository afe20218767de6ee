// SPDX-License-Identifier: Apache-2.0

//go:build !linux

package launch

import (
	"context"
	"net"
	"runtime"

	"github.com/cretula/cretula/nsm"
	"github.com/cretula/cretula/pcr"
	"github.com/cretula/cretula/reason"
)

func unsupported() error {
	return reason.New(reason.Unsupported, "launch.platform", "launch: images can be started on Linux, not on %s", runtime.GOOS)
}

// An Enclave is a started image; there is none here.
type Enclave struct{}

// Start is not supported here.
func Start(ctx context.Context, c Config) (*Enclave, error) { return nil, unsupported() }

// Wait is not supported here.
func (e *Enclave) Wait() error { return unsupported() }

// Kill does nothing.
func (e *Enclave) Kill() {}

// PID returns 0.
func (e *Enclave) PID() int { return 0 }

// Measurements returns none.
func (e *Enclave) Measurements() pcr.Measurements { return pcr.Measurements{} }

// ModuleID returns "".
func (e *Enclave) ModuleID() string { return "" }

// Isolation returns the zero value.
func (e *Enclave) Isolation() Isolation { return Isolation{} }

// Inside is what a started program has; there is none here.
type Inside struct {
	// NSM is nil.
	NSM nsm.Device
}

// Inherited is not supported here.
func Inherited() (*Inside, error) { return nil, unsupported() }

// DialContext is not supported here.
func (in *Inside) DialContext(ctx context.Context, name string) (net.Conn, error) {
	return nil, unsupported()
}

// Close does nothing.
func (in *Inside) Close() error { return nil }
