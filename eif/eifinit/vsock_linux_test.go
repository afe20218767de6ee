// SPDX-License-Identifier: Apache-2.0

package eifinit

import (
	"encoding/binary"
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// A parent plays the parent instance of a virtual machine: it is the device
// behind the machine's vsock, in QEMU's vhost-user protocol
// (qemu.org/docs/master/interop/vhost-user.html), and answers what the machine
// sends to CID 3 port 9000 as nitro-cli does. Nothing of the kernel of this
// machine takes part, neither its vsock nor its vhost.
//
// Packets and rings are those of VIRTIO 1.2, sections 5.10.6 and 2.7.
type parent struct {
	path   string // of the socket that QEMU connects to
	answer byte   // to a heartbeat
	refuse bool   // connections

	regions []region
	rings   [2]ring // to the machine, from the machine
	seen    chan packet
}

// A region is memory of the machine, mapped here.
type region struct {
	guest, size, user uint64
	data              []byte
}

type ring struct {
	size              uint16
	next, used        uint16 // positions
	desc, avail, done []byte // the three parts
	call              *os.File
	ready             bool
}

type packet struct {
	srcCID, dstCID   uint64
	srcPort, dstPort uint32
	kind, op         uint16
	flags            uint32
	data             string
}

const (
	guestCID      = 16
	opRequest     = 1
	opResponse    = 2
	opReset       = 3
	opShutdown    = 4
	opData        = 5
	packetHeader  = 44
	requestReply  = 1 | 1<<2 // version, and "this is a reply"
	userHeader    = 12
	featureFuture = 1 << 32 // VIRTIO_F_VERSION_1
	featureMore   = 1 << 30 // VHOST_USER_F_PROTOCOL_FEATURES
	protocolConf  = 1 << 9  // VHOST_USER_PROTOCOL_F_CONFIG
)

func newParent(t *testing.T) *parent {
	t.Helper()
	p := &parent{path: filepath.Join(t.TempDir(), "vsock"), answer: 0xb7, seen: make(chan packet, 100)}
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: p.path})
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan error)
	go func() {
		conn, err := l.AcceptUnix()
		if err == nil {
			err = p.serve(conn)
			conn.Close()
		}
		ended <- err
	}()
	t.Cleanup(func() {
		l.Close()
		defer p.unmap()
		if err := <-ended; err != nil && !errors.Is(err, io.EOF) && !errors.Is(err, net.ErrClosed) {
			t.Errorf("vhost-user: %v", err)
		}
	})
	return p
}

// serve answers QEMU until it hangs up.
func (p *parent) serve(conn *net.UnixConn) error {
	var stop atomic.Bool
	worked := make(chan struct{})
	close(worked)
	quit := func() { stop.Store(true); <-worked; stop.Store(false) }
	defer quit()
	for {
		request, body, fds, err := readRequest(conn)
		if err != nil {
			return err
		}
		quit() // the rings are not worked on while they change
		reply, err := p.handle(request, body, fds)
		for _, fd := range fds {
			unix.Close(fd)
		}
		if err != nil {
			return err
		}
		if reply != nil {
			head := binary.LittleEndian.AppendUint32(nil, request)
			head = binary.LittleEndian.AppendUint32(head, requestReply)
			head = binary.LittleEndian.AppendUint32(head, uint32(len(reply)))
			if _, err := conn.Write(append(head, reply...)); err != nil {
				return err
			}
		}
		worked = make(chan struct{})
		go func() {
			defer close(worked)
			for !stop.Load() {
				p.work()
				time.Sleep(time.Millisecond)
			}
		}()
	}
}

func readRequest(conn *net.UnixConn) (request uint32, body []byte, fds []int, err error) {
	head, control := make([]byte, userHeader), make([]byte, unix.CmsgSpace(8*4))
	n, controls, _, _, err := conn.ReadMsgUnix(head, control)
	if err == nil && n == 0 {
		err = io.EOF
	}
	if err != nil {
		return 0, nil, nil, err
	}
	if _, err := io.ReadFull(conn, head[n:]); err != nil {
		return 0, nil, nil, err
	}
	messages, err := unix.ParseSocketControlMessage(control[:controls])
	if err != nil {
		return 0, nil, nil, err
	}
	for _, m := range messages {
		got, err := unix.ParseUnixRights(&m)
		if err != nil {
			return 0, nil, nil, err
		}
		fds = append(fds, got...)
	}
	body = make([]byte, binary.LittleEndian.Uint32(head[8:]))
	_, err = io.ReadFull(conn, body)
	return binary.LittleEndian.Uint32(head), body, fds, err
}

// handle does what a request asks and returns the reply, if it has one.
func (p *parent) handle(request uint32, body []byte, fds []int) ([]byte, error) {
	word := func(i int) uint32 { return binary.LittleEndian.Uint32(body[4*i:]) }
	long := func(i int) uint64 { return binary.LittleEndian.Uint64(body[8*i:]) }
	var r *ring
	if request >= 8 && request <= 14 || request == 18 {
		r = &p.rings[word(0)&1]
	}
	switch request {
	case 1: // GET_FEATURES
		return binary.LittleEndian.AppendUint64(nil, featureFuture|featureMore), nil
	case 15: // GET_PROTOCOL_FEATURES
		return binary.LittleEndian.AppendUint64(nil, protocolConf), nil
	case 24: // GET_CONFIG
		binary.LittleEndian.PutUint64(body[12:], guestCID)
		return body, nil
	case 5: // SET_MEM_TABLE
		return nil, p.mapMemory(int(word(0)), long, fds)
	case 8: // SET_VRING_NUM
		r.size = uint16(word(1))
	case 9: // SET_VRING_ADDR
		size := uint64(r.size)
		r.desc, r.done, r.avail = p.user(long(1), 16*size), p.user(long(2), 4+8*size), p.user(long(3), 4+2*size)
		r.ready = r.desc != nil && r.done != nil && r.avail != nil
	case 10: // SET_VRING_BASE
		r.next, r.used = uint16(word(1)), uint16(word(1))
	case 11: // GET_VRING_BASE, which stops the ring
		r.ready = false
		return binary.LittleEndian.AppendUint32(append([]byte{}, body[:4]...), uint32(r.next)), nil
	case 13: // SET_VRING_CALL
		if len(fds) == 1 {
			call, err := unix.Dup(fds[0])
			r.call = os.NewFile(uintptr(call), "call")
			return nil, err
		}
	}
	return nil, nil
}

func (p *parent) mapMemory(n int, long func(int) uint64, fds []int) error {
	p.unmap()
	for i := range n {
		guest, size, user, offset := long(1+4*i), long(2+4*i), long(3+4*i), long(4+4*i)
		data, err := unix.Mmap(fds[i], int64(offset), int(size), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
		if err != nil {
			return err
		}
		p.regions = append(p.regions, region{guest, size, user, data})
	}
	return nil
}

func (p *parent) unmap() {
	for _, r := range p.regions {
		_ = unix.Munmap(r.data)
	}
	p.regions = nil
	for i := range p.rings {
		p.rings[i].ready = false
	}
}

func (p *parent) user(address, size uint64) []byte {
	for _, r := range p.regions {
		if address >= r.user && address+size <= r.user+r.size {
			return r.data[address-r.user:][:size]
		}
	}
	return nil
}

func (p *parent) guest(address, size uint64) []byte {
	for _, r := range p.regions {
		if address >= r.guest && address+size <= r.guest+r.size {
			return r.data[address-r.guest:][:size]
		}
	}
	return nil
}

// take returns the next buffer that the machine gave, as the parts it has.
func (p *parent) take(r *ring) (head uint16, parts [][]byte) {
	if !r.ready || binary.LittleEndian.Uint16(r.avail[2:]) == r.next {
		return 0, nil
	}
	head = binary.LittleEndian.Uint16(r.avail[4+2*(r.next%r.size):])
	r.next++
	for i := head; ; {
		d := r.desc[16*i:]
		parts = append(parts, p.guest(binary.LittleEndian.Uint64(d), uint64(binary.LittleEndian.Uint32(d[8:]))))
		if binary.LittleEndian.Uint16(d[12:])&1 == 0 { // VIRTQ_DESC_F_NEXT
			return head, parts
		}
		i = binary.LittleEndian.Uint16(d[14:])
	}
}

// give returns a buffer to the machine and tells it.
func (r *ring) give(head uint16, written int) {
	entry := r.done[4+8*(r.used%r.size):]
	binary.LittleEndian.PutUint32(entry, uint32(head))
	binary.LittleEndian.PutUint32(entry[4:], uint32(written))
	r.used++
	binary.LittleEndian.PutUint16(r.done[2:], r.used)
	if r.call != nil {
		_, _ = r.call.Write([]byte{1, 0, 0, 0, 0, 0, 0, 0})
	}
}

// work takes all packets of the machine and answers them.
func (p *parent) work() {
	for {
		head, parts := p.take(&p.rings[1])
		if parts == nil {
			return
		}
		var all []byte
		for _, part := range parts {
			all = append(all, part...)
		}
		p.rings[1].give(head, 0)
		h := all[:packetHeader]
		got := packet{
			srcCID: binary.LittleEndian.Uint64(h), dstCID: binary.LittleEndian.Uint64(h[8:]),
			srcPort: binary.LittleEndian.Uint32(h[16:]), dstPort: binary.LittleEndian.Uint32(h[20:]),
			kind: binary.LittleEndian.Uint16(h[28:]), op: binary.LittleEndian.Uint16(h[30:]),
			flags: binary.LittleEndian.Uint32(h[32:]),
			data:  string(all[packetHeader:][:binary.LittleEndian.Uint32(h[24:])]),
		}
		p.seen <- got
		switch {
		case got.op == opRequest && !p.refuse:
			p.send(got, opResponse, "")
		case got.op == opRequest || got.op == opShutdown:
			p.send(got, opReset, "")
		case got.op == opData:
			p.send(got, opData, string([]byte{p.answer}))
		}
	}
}

// send answers a packet.
func (p *parent) send(to packet, op uint16, data string) {
	h := make([]byte, 0, packetHeader+len(data))
	h = binary.LittleEndian.AppendUint64(h, to.dstCID)
	h = binary.LittleEndian.AppendUint64(h, to.srcCID)
	h = binary.LittleEndian.AppendUint32(h, to.dstPort)
	h = binary.LittleEndian.AppendUint32(h, to.srcPort)
	h = binary.LittleEndian.AppendUint32(h, uint32(len(data)))
	h = binary.LittleEndian.AppendUint16(h, to.kind)
	h = binary.LittleEndian.AppendUint16(h, op)
	h = binary.LittleEndian.AppendUint32(h, 0)
	h = binary.LittleEndian.AppendUint32(h, 64<<10) // our buffer
	h = binary.LittleEndian.AppendUint32(h, 0)
	h = append(h, data...)
	head, parts := p.take(&p.rings[0])
	written := 0
	for _, part := range parts {
		written += copy(part, h[written:])
	}
	if parts != nil {
		p.rings[0].give(head, written)
	}
}
