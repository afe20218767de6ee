// SPDX-License-Identifier: Apache-2.0

//go:build !linux

package adminsock

import (
	"net"
	"runtime"

	"github.com/cretula/cretula/reason"
)

func supported() error {
	return reason.New(reason.Unsupported, "kms.admin-socket", "the admin socket is not available on %s", runtime.GOOS)
}

func peerUID(net.Conn) (int, error) { return 0, supported() }
