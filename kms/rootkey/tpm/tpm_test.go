// SPDX-License-Identifier: Apache-2.0

package tpm

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"testing"
	"time"

	"github.com/cretula/cretula/kms/rootkey"
	"github.com/google/go-tpm/tpm2"
	"github.com/google/go-tpm/tpm2/transport"
)

func TestNew(t *testing.T) {
	path := filepath.Join(t.TempDir(), "tpm")
	for _, device := range []string{path, "127.0.0.1:2321", "[::1]:2321"} {
		if h, err := New(Config{Device: device}); err != nil || h == nil {
			t.Errorf("%s: %v", device, err)
		}
	}
	for _, device := range []string{"", "tpm0", "dev/tpm0", "192.0.2.1:2321", "localhost:2321", "0.0.0.0:1", "127.0.0.1", ":2321"} {
		if h, err := New(Config{Device: device}); err == nil || h != nil {
			t.Errorf("device %q was accepted", device)
		}
	}
	for _, pcrs := range [][]int{{-1}, {24}, {7, 7}, {0, 1, 0}, {1 << 40}} {
		if h, err := New(Config{Device: path, PCRs: pcrs}); err == nil || h != nil {
			t.Errorf("registers %v were accepted", pcrs)
		}
	}
	given := []int{11, 7}
	if h, err := New(Config{Device: path, PCRs: given}); err != nil || h.pcrs[0] != 7 || given[0] != 11 {
		t.Errorf("%v, %v, given %v", h, err, given)
	}
}

func TestNoDevice(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("no such devices on Windows")
	}
	dir := t.TempDir()
	for device, want := range map[string]error{
		filepath.Join(dir, "none"): fs.ErrNotExist,
		dir:                        rootkey.ErrUnavailable,
		"/dev/null":                io.EOF,
		"/dev/zero":                rootkey.ErrUnavailable,
		"127.0.0.1:1":              rootkey.ErrUnavailable,
	} {
		h, err := New(Config{Device: device})
		if err != nil {
			t.Fatal(err)
		}
		sealed, err := h.Seal(t.Context(), make([]byte, rootkey.SecretSize))
		if !errors.Is(err, want) || !errors.Is(err, rootkey.ErrUnavailable) || sealed != nil {
			t.Errorf("%s: %v, want %v", device, err, want)
		}
	}
}

// TestSilent waits for a TPM that does not answer no longer than the caller.
func TestSilent(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	h, err := New(Config{Device: l.Addr().String()})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	got, err := h.Seal(ctx, make([]byte, rootkey.SecretSize))
	if !errors.Is(err, context.DeadlineExceeded) || !errors.Is(err, rootkey.ErrUnavailable) || got != nil {
		t.Errorf("%v", err)
	}
}

func response(code tpm2.TPMRC, size int) []byte {
	b := binary.BigEndian.AppendUint16(nil, 0x8001)
	b = binary.BigEndian.AppendUint32(b, uint32(size))
	return binary.BigEndian.AppendUint32(b, uint32(code))
}

// A pipe answers commands one after the other.
type pipe struct {
	answers [][]byte
	sent    int
	io.Closer
}

func (p *pipe) Write(b []byte) (int, error) {
	p.sent++
	return len(b), nil
}

func (p *pipe) Read(b []byte) (int, error) {
	if len(p.answers) == 0 {
		return 0, io.EOF
	}
	n := copy(b, p.answers[0])
	p.answers = p.answers[1:]
	return n, nil
}

func TestSend(t *testing.T) {
	ok := response(0, 10)
	for name, c := range map[string]struct {
		answers [][]byte
		sent    int // 0: the answer is refused
	}{
		"whole":         {[][]byte{ok}, 1},
		"in parts":      {[][]byte{ok[:3], ok[3:9], ok[9:]}, 1},
		"retry":         {[][]byte{response(tpm2.TPMRCRetry, 10), response(tpm2.TPMRCTesting, 10), ok}, 3},
		"cut":           {[][]byte{ok[:9]}, 0},
		"nothing":       {[][]byte{{}, ok}, 0},
		"longer":        {[][]byte{append(bytes.Clone(ok), 0)}, 0},
		"says less":     {[][]byte{response(0, 9)}, 0},
		"says too much": {[][]byte{response(0, maxResponse+1)}, 0},
		"says 4 GiB":    {[][]byte{response(0, 1<<32-1)}, 0},
	} {
		p := &pipe{answers: c.answers}
		got, err := (&conn{ReadWriteCloser: p, ctx: t.Context()}).Send([]byte("command"))
		if (err == nil) != (c.sent > 0) || err == nil && (!bytes.Equal(got, ok) || p.sent != c.sent) {
			t.Errorf("%s: %x after %d, %v", name, got, p.sent, err)
		}
	}
	p := &pipe{}
	for range 2 * tries {
		p.answers = append(p.answers, response(tpm2.TPMRCRetry, 10))
	}
	got, err := (&conn{ReadWriteCloser: p, ctx: t.Context()}).Send(nil)
	if err != nil || p.sent != tries || !bytes.Equal(got, response(tpm2.TPMRCRetry, 10)) {
		t.Errorf("busy for ever: %x after %d, %v", got, p.sent, err)
	}
}

func testObject() object {
	o := object{private: []byte("private")}
	for i := range o.root {
		o.root[i], o.unique[i] = byte(i), byte(i+100)
	}
	o.registers = []register{{index: 7}, {index: 11, value: o.root}}
	return o
}

func TestDecode(t *testing.T) {
	good := testObject().encode()
	if o, err := decode(good); err != nil || !bytes.Equal(o.encode(), good) || len(o.registers) != 2 || o.registers[1].index != 11 {
		t.Fatalf("%+v, %v", o, err)
	}
	set := func(at int, v byte) []byte {
		b := bytes.Clone(good)
		b[at] = v
		return b
	}
	for name, b := range map[string][]byte{
		"nothing":           nil,
		"version 0":         set(0, 0),
		"version 2":         set(0, 2),
		"too many":          set(65, 25),
		"one more":          set(65, 3),
		"register 24":       set(66+33, 24),
		"twice":             set(66+33, 7),
		"descending":        set(66+33, 6),
		"no private area":   good[:66+66],
		"huge private area": append(bytes.Clone(good), make([]byte, maxPrivate)...),
	} {
		if o, err := decode(b); !errors.Is(err, rootkey.ErrNotOpened) || o.private != nil {
			t.Errorf("%s: %+v, %v", name, o, err)
		}
	}
}

func FuzzDecode(f *testing.F) {
	good := testObject().encode()
	if _, err := decode(good); err != nil {
		f.Fatal(err)
	}
	f.Add(good)
	f.Add(good[:66])
	f.Fuzz(func(t *testing.T, b []byte) {
		o, err := decode(b)
		if err != nil {
			if !errors.Is(err, rootkey.ErrNotOpened) {
				t.Error(err)
			}
			return
		}
		if !bytes.Equal(o.encode(), b) {
			t.Errorf("encoded again: %x, was %x", o.encode(), b)
		}
		if _, err := o.public(); err != nil {
			t.Error(err)
		}
	})
}

// A script is a TPM that answers with what it was given, whatever is asked.
type script [][]byte

func (s *script) Send([]byte) ([]byte, error) {
	if len(*s) == 0 {
		return nil, io.EOF
	}
	r := (*s)[0]
	*s = (*s)[1:]
	return r, nil
}

var _ transport.TPM = (*script)(nil)

// FuzzAnswers has the parsers read what no TPM says. The input is cut into
// answers where it says so: two bytes of length before each.
func FuzzAnswers(f *testing.F) {
	answer := func(all ...[]byte) (b []byte) {
		for _, a := range all {
			b = append(binary.BigEndian.AppendUint16(b, uint16(len(a))), a...)
		}
		return b
	}
	f.Add(answer(response(0, 10), response(tpm2.TPMRCBadAuth, 10)))
	f.Add(answer(response(tpm2.TPMRCLockout, 10)))
	recorded, err := os.ReadFile("testdata/answers") // of swtpm, to checkRegisters and open
	if err != nil || len(recorded) < 900 {
		f.Fatalf("%d bytes, %v", len(recorded), err)
	}
	f.Add(recorded)
	f.Fuzz(func(t *testing.T, b []byte) {
		s := new(script)
		for len(b) >= 2 {
			n := min(int(binary.BigEndian.Uint16(b)), len(b)-2)
			*s, b = append(*s, b[2:2+n]), b[2+n:]
		}
		err := withRoot(s, func(r *root) error {
			o := testObject()
			if _, err := r.readRegisters([]int{7}); err != nil {
				return err
			}
			if _, err := r.open(o); err == nil {
				t.Error("opened without a TPM")
			}
			return errors.New("no TPM")
		})
		if err == nil {
			t.Error("no error without a TPM")
		}
	})
}

// A slowDevice is read as /dev/tpmrm0 is without blocking: empty reads, then the
// response.
type slowDevice struct {
	empty    int
	response []byte
}

func (d *slowDevice) Write(b []byte) (int, error) { return len(b), nil }
func (d *slowDevice) Close() error                { return nil }
func (d *slowDevice) Read(b []byte) (int, error) {
	if d.empty > 0 {
		d.empty--
		return 0, io.EOF
	}
	return copy(b, d.response), nil
}

// TestSlowDevice: an empty read of a device is not its end, as that of a socket is.
func TestSlowDevice(t *testing.T) {
	response := []byte{0x80, 0x01, 0, 0, 0, 10, 0, 0, 0, 0}
	c := &conn{ReadWriteCloser: &slowDevice{3, response}, ctx: t.Context(), queued: true}
	if got, err := c.Send([]byte("command")); err != nil || !bytes.Equal(got, response) {
		t.Errorf("%x, %v", got, err)
	}
	c = &conn{ReadWriteCloser: &slowDevice{3, response}, ctx: t.Context()}
	if _, err := c.Send([]byte("command")); !errors.Is(err, io.EOF) {
		t.Errorf("of a socket: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	c = &conn{ReadWriteCloser: &slowDevice{1 << 30, response}, ctx: ctx, queued: true}
	if _, err := c.Send([]byte("command")); !errors.Is(err, context.Canceled) {
		t.Errorf("of a context that has ended: %v", err)
	}
}
