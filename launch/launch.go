// SPDX-License-Identifier: Apache-2.0

// Package launch starts the program of an enclave image as a process of this
// machine, with a Nitro Security Module in software that attests the image's
// measurements.
//
// It is an emulation of an enclave and no sandbox. The image's kernel and init
// do not run; where the kernel allows it, the program gets namespaces without a
// network and sees no files but the image's, which [Isolation] reports. That
// keeps an honest program to what an enclave has. It does not hold a hostile one:
// AF_VSOCK sockets, for one, are in no namespace. Documents are issued by an
// authority made for the purpose and verify as emulated.
//
// # What the program gets
//
// The command of the image with the environment of the image and nothing else, in
// the working directory that the image names and, where a namespace allows that,
// as its user; of an image for AWS's init, which names neither, in "/" as some
// user. A command is looked for as the init of the image would. Otherwise,
// standard input is empty, standard output and error go where [Config] says,
// descriptor 3 is a connected socket in the protocol of package nsm, and
// descriptor 4 takes requests for connections by name. [Inherited] makes use of
// both. Devices of the image are not made, nor files whose folder
// no entry before them makes, as in the kernel; files belong to whoever started it.
//
// # Descriptor 4
//
// A Unix socket of type SOCK_SEQPACKET. The program sends one packet for each
// connection it wants: the name, 1 to 255 bytes, with one end of a stream
// socket pair as the only descriptor (SCM_RIGHTS). An empty packet ends the
// service; what else is no request is dropped. The answer comes over the
// other end: one byte 0, and the stream is connected, or one byte 1 and a text
// up to the end of the stream.
package launch

import (
	"context"
	"io"
	"net"
	"os"
	"time"

	"github.com/cretula/cretula/attestation/issuer"
)

// The descriptors that a started program inherits.
const (
	nsmDescriptor    = 3
	egressDescriptor = 4
)

// A Dialer makes one connection for the program in the enclave.
type Dialer func(ctx context.Context) (net.Conn, error)

// A Config says what to start and what it is given. Image and Authority are
// required.
type Config struct {
	// Image is the enclave image file. It is copied and measured before anything
	// of it is run; it stays the caller's to close.
	Image *os.File
	// Authority issues the documents.
	Authority *issuer.Authority
	// RoleARN is the IAM role of the parent instance, which PCR3 holds. Empty: no
	// role, PCR3 is zero.
	RoleARN string
	// InstanceID is the id of the parent instance, which PCR4 and the module's id
	// hold. Empty: one is made up.
	InstanceID string
	// Debug starts the enclave in debug mode: its documents have a zero PCR0,
	// PCR1, PCR2 and PCR8.
	Debug bool
	// Egress are the only ways out, by the names by which the program asks.
	Egress map[string]Dialer
	// Stdout and Stderr take the program's output; nil discards it.
	Stdout, Stderr io.Writer
	// Now is the clock of documents and of the image's signing certificate. Nil:
	// time.Now.
	Now func() time.Time
	// Rand is where ids come from. Nil: crypto/rand.
	Rand io.Reader

	// refuse lets tests play a kernel that allows less.
	refuse func(flags uintptr) error
}

// Isolation says what separates the program from the machine.
type Isolation struct {
	// Isolated: the program has no network, sees no process but its own, and so
	// forth: it is in namespaces of its own.
	Isolated bool
	// Root: the program sees the image's files and no others.
	Root bool
	// Why has one sentence for each thing that is missing, for each way in which
	// the program is not whom the image says, and for files of the image that the
	// kernel of an enclave would not unpack and that are not there here, either.
	Why []string
}
