// SPDX-License-Identifier: Apache-2.0

package launch

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/cretula/cretula/attestation/issuer"
	"github.com/cretula/cretula/eif"
	"github.com/cretula/cretula/nsm"
	"github.com/cretula/cretula/nsm/softnsm"
	"github.com/cretula/cretula/pcr"
)

// An Enclave is a started image.
type Enclave struct {
	measurements pcr.Measurements
	moduleID     string
	isolation    Isolation
	process      *child

	dir    string // private, removed at the end
	cancel context.CancelFunc
	served sync.WaitGroup
	done   chan struct{}
	err    error // valid when done is closed
}

// Start measures an image and then starts its program, which runs until it ends,
// [Enclave.Kill] is called, ctx ends, or this process ends. The NSM has the
// image's measurements in PCR0, PCR1, PCR2 and (when signed) PCR8, role and
// instance in PCR3 and PCR4, and registers 0 to 15 locked. A signed image whose
// signature [eif.Signature.Verify] refuses is not started.
//
// Refusals of the image are [*reason.Error].
func Start(ctx context.Context, c Config) (*Enclave, error) {
	if c.Image == nil || c.Authority == nil {
		return nil, errors.New("launch: an image and an authority are needed")
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.Rand == nil {
		c.Rand = rand.Reader
	}
	dir, err := os.MkdirTemp("", "cretula-enclave-")
	if err != nil {
		return nil, err
	}
	e, err := start(ctx, &c, dir)
	if err != nil {
		os.RemoveAll(dir)
		return nil, err
	}
	return e, nil
}

func start(ctx context.Context, c *Config, dir string) (*Enclave, error) {
	// What is measured must be what runs, whatever happens to the file.
	image, size, err := privateCopy(c.Image, dir)
	if err != nil {
		return nil, err
	}
	defer image.Close()
	im, err := eif.Parse(image, size)
	if err != nil {
		return nil, err
	}
	e := &Enclave{dir: dir, done: make(chan struct{})}
	if e.measurements, err = im.MeasureAt(ctx, c.Now()); err != nil {
		return nil, err
	}
	module, err := newModule(c, e.measurements)
	if err != nil {
		return nil, err
	}
	e.moduleID = module.ModuleID()
	app, err := extract(im, dir)
	if err != nil {
		module.Close()
		return nil, err
	}
	if err := e.run(ctx, c, app, module); err != nil {
		module.Close()
		return nil, err
	}
	return e, nil
}

// privateCopy returns a copy of the file that nobody else has a name for.
func privateCopy(file *os.File, dir string) (*os.File, int64, error) {
	info, err := file.Stat()
	if err != nil {
		return nil, 0, err
	}
	if !info.Mode().IsRegular() {
		return nil, 0, fmt.Errorf("launch: %s is no regular file", file.Name())
	}
	name := filepath.Join(dir, "image")
	out, err := os.OpenFile(name, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return nil, 0, err
	}
	if err := os.Remove(name); err != nil {
		out.Close()
		return nil, 0, err
	}
	size, err := io.Copy(out, io.NewSectionReader(file, 0, info.Size()))
	if err != nil {
		out.Close()
		return nil, 0, err
	}
	return out, size, nil
}

// newModule makes the NSM of an enclave with these measurements.
func newModule(c *Config, m pcr.Measurements) (*softnsm.Module, error) {
	instance := c.InstanceID
	if instance == "" {
		var id [9]byte
		if _, err := io.ReadFull(c.Rand, id[:]); err != nil {
			return nil, err
		}
		instance = "i-" + hex.EncodeToString(id[:])[:17]
	}
	registers := m.Set
	var err error
	put := func(i pcr.Index, predict func(string) (pcr.Digest, error), of string) {
		d, e := predict(of)
		err = errors.Join(err, e)
		registers.Put(i, d)
	}
	if c.RoleARN != "" {
		put(3, pcr.Role, c.RoleARN)
	}
	put(4, pcr.Instance, instance)
	if err != nil {
		return nil, fmt.Errorf("launch: %w", err)
	}
	return softnsm.New(softnsm.Config{
		Authority:     c.Authority,
		ModuleID:      issuer.NewModuleID(instance, c.Now(), c.Rand),
		PCRs:          registers,
		Debug:         c.Debug,
		IndefiniteMap: true,
		Now:           c.Now,
	})
}

// run starts the program and then whatever serves it.
func (e *Enclave) run(ctx context.Context, c *Config, app *application, module *softnsm.Module) error {
	nsmFile, nsmConn, err := nsm.Pair()
	if err != nil {
		return err
	}
	defer nsmFile.Close()
	egressFile, egressConn, err := nsm.Pair()
	if err != nil {
		nsmConn.Close()
		return err
	}
	defer egressFile.Close()
	work := filepath.Join(e.dir, "work")
	if err = os.Mkdir(work, 0o700); err == nil {
		e.process, e.isolation, err = startProcess(c, app, work, []*os.File{nsmFile, egressFile})
	}
	if err != nil {
		nsmConn.Close()
		egressConn.Close()
		return err
	}
	ctx, e.cancel = context.WithCancel(ctx)
	e.serve(ctx, nsmConn, module, egressConn, c.Egress)
	stop := context.AfterFunc(ctx, e.process.kill)
	go func() {
		<-e.process.done
		stop()
		e.err = e.process.err
		if cause := ctx.Err(); cause != nil {
			e.err = fmt.Errorf("launch: enclave killed: %w", cause)
		}
		e.cancel()
		e.served.Wait()
		module.Close()
		if err := os.RemoveAll(e.dir); e.err == nil {
			e.err = err
		}
		close(e.done)
	}()
	return nil
}

// serve answers NSM and egress requests until ctx ends.
func (e *Enclave) serve(ctx context.Context, nsmConn *net.UnixConn, module nsm.Device, egressConn *net.UnixConn, egress map[string]Dialer) {
	e.served.Add(2)
	go func() {
		defer e.served.Done()
		// A connection that failed is one that the program broke.
		_ = nsm.ServeConn(ctx, nsmConn, module)
	}()
	go func() {
		defer e.served.Done()
		serveEgress(ctx, egressConn, egress)
	}()
}

// Wait waits for the program's end and for everything of the enclave to be
// removed. The error is an [*exec.ExitError] if the program did not end with
// status 0, and one that matches [context.Canceled] or
// [context.DeadlineExceeded] if it was killed by Kill or because the context of
// Start ended. It can be called any number of times.
func (e *Enclave) Wait() error {
	<-e.done
	return e.err
}

// Kill ends the program. Wait tells when it has ended.
func (e *Enclave) Kill() { e.cancel() }

// PID returns the program's process id, as this process sees it.
func (e *Enclave) PID() int { return e.process.pid }

// Measurements returns those of the image, also in debug mode.
func (e *Enclave) Measurements() pcr.Measurements { return e.measurements }

// ModuleID returns the NSM's name, which documents carry.
func (e *Enclave) ModuleID() string { return e.moduleID }

// Isolation tells what separates the program from the machine.
func (e *Enclave) Isolation() Isolation { return e.isolation }
