// SPDX-License-Identifier: Apache-2.0

//go:build !linux

package adminsock

import (
	"errors"
	"fmt"
	"net"
	"runtime"
)

func supported() error {
	return fmt.Errorf("the admin socket is not available on %s: %w", runtime.GOOS, errors.ErrUnsupported)
}

func peerUID(net.Conn) (int, error) { return 0, supported() }
