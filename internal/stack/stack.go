// SPDX-License-Identifier: Apache-2.0

// Package stack runs the whole chain on one machine, over one folder: the key
// service with its store, a software Nitro Security Module that attests an
// enclave image, and the credentials of an administrator. Everything in it is
// emulated: the root of trust is one made for the folder.
package stack

import (
	"context"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"time"

	"github.com/cretula/cretula/attestation/issuer"
	"github.com/cretula/cretula/eif/eifbuild"
	"github.com/cretula/cretula/internal/adminsock"
	"github.com/cretula/cretula/internal/datadir"
	"github.com/cretula/cretula/internal/durable"
	"github.com/cretula/cretula/kms"
	"github.com/cretula/cretula/kms/kmsserver"
	"github.com/cretula/cretula/kms/ledger"
	"github.com/cretula/cretula/nsm"
	"github.com/cretula/cretula/nsm/softnsm"
	"github.com/cretula/cretula/pcr"
	"github.com/cretula/cretula/reason"
)

// Account is the account of every emulated store.
const Account = "000000000000"

// Region is the region that the environment file names. The key service serves
// every region.
const Region = "us-east-1"

// DefaultInstanceID is the parent instance that an emulated enclave runs on
// unless another one is named.
const DefaultInstanceID = "i-0123456789abcdef0"

// Names of the files in the folder, besides those of packages datadir and
// adminsock.
const (
	EnvFile          = "env"
	ImageFile        = "image.eif"
	MeasurementsFile = "measurements.json"
	AuthorityFile    = "emulator-root.pem"
	RootFile         = "emulator-root.crt"
	NSMSocket        = "nsm.sock"
)

// A Config says what to run.
type Config struct {
	// Dir is the folder; it is made (0700) if absent.
	Dir string
	// Listen is a loopback address and port; port 0 takes a free one.
	Listen string
	// Image is the enclave image that the module attests. Empty: Program is
	// built into one.
	Image string
	// Program and Args are what an image is built around; see [BuildImage].
	Program eifbuild.Content
	Args    []string
	// RoleARN and InstanceID are of the parent instance, for PCR3 and PCR4.
	// Empty: no role, [DefaultInstanceID].
	RoleARN, InstanceID string
	// Debug makes the module that of an enclave in debug mode.
	Debug bool
	// Logger gets the log of the key service; nil: none.
	Logger *slog.Logger
	// Now is the clock; nil: time.Now.
	Now func() time.Time
}

// A Stack is a running chain.
type Stack struct {
	// Endpoint is the URL of the key service, without a slash at the end.
	Endpoint string
	// Admin is the access key of the administrator, who may do everything that
	// identity policies can allow.
	Admin kms.Credentials
	// KMS is the key service itself.
	KMS *kms.Server
	// Authority is the root of trust.
	Authority *issuer.Authority
	// Measurements are those of the image at ImagePath.
	Measurements pcr.Measurements
	ImagePath    string
	// ModuleID is the name of the module.
	ModuleID string

	config  Config
	data    *datadir.Dir
	module  *softnsm.Module
	cancel  context.CancelFunc
	serving sync.WaitGroup
	failed  chan error
}

// Start opens or makes the folder and runs everything in it until [Stack.Close].
// When it returns the environment file is there. The error has reason
// unsupported on other systems than Linux.
func Start(ctx context.Context, c Config) (*Stack, error) {
	if runtime.GOOS != "linux" {
		return nil, reason.New(reason.Unsupported, "stack.system", "the emulated stack needs Linux, this is %s", runtime.GOOS)
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.InstanceID == "" {
		c.InstanceID = DefaultInstanceID
	}
	dir, err := filepath.Abs(c.Dir)
	if err != nil {
		return nil, err
	}
	c.Dir = dir
	ctx, cancel := context.WithCancel(ctx)
	s := &Stack{config: c, cancel: cancel, failed: make(chan error, 3)}
	if err := s.start(ctx); err != nil {
		s.Close()
		return nil, err
	}
	return s, nil
}

func (s *Stack) start(ctx context.Context) error {
	var err error
	if s.data, err = datadir.Create(ctx, s.config.Dir, ledger.Meta{Emulated: true, Account: Account}); err != nil {
		return err
	}
	// What an earlier run left, when it was killed, leads nowhere.
	if err := os.Remove(s.path(EnvFile)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if s.Authority, err = LoadAuthority(s.path(AuthorityFile), issuer.Options{Now: s.config.Now}); err != nil {
		return err
	}
	if err := durable.WriteFile(s.path(RootFile), RootPEM(s.Authority)); err != nil {
		return err
	}
	s.KMS, err = kms.New(kms.Config{
		Ledger: s.data.Ledger, RootKey: s.data.RootKey, Audit: s.data.Audit,
		Roots: []*x509.Certificate{s.Authority.Root()}, Now: s.config.Now,
	})
	if err != nil {
		return err
	}
	if err := s.data.Ledger.CheckRoster(ctx); err != nil {
		return err
	}
	if s.Admin, err = s.KMS.EnsureAdmin(ctx); err != nil {
		return err
	}
	if err := s.measure(ctx); err != nil {
		return err
	}
	if err := s.serveNSM(ctx); err != nil {
		return err
	}
	if err := s.serveKMS(ctx); err != nil {
		return err
	}
	return durable.WriteFile(s.path(EnvFile), s.environment())
}

func (s *Stack) path(name string) string { return filepath.Join(s.config.Dir, name) }

// measure finds or builds the image and writes down its measurements.
func (s *Stack) measure(ctx context.Context) (err error) {
	s.ImagePath = s.config.Image
	if s.ImagePath == "" {
		s.ImagePath = s.path(ImageFile)
		s.Measurements, err = BuildImage(ctx, s.ImagePath, s.config.Program, s.config.Args...)
	} else {
		s.Measurements, err = MeasureImage(ctx, s.ImagePath, s.config.Now())
	}
	if err != nil {
		return err
	}
	data, err := json.MarshalIndent(struct{ Measurements pcr.Measurements }{s.Measurements}, "", "  ")
	if err != nil {
		return err
	}
	return durable.WriteFile(s.path(MeasurementsFile), append(data, '\n'))
}

// serveNSM starts the module that attests the image.
func (s *Stack) serveNSM(ctx context.Context) error {
	registers := s.Measurements.Set
	parent, err := pcr.Instance(s.config.InstanceID)
	if err != nil {
		return err
	}
	registers.Put(4, parent)
	if s.config.RoleARN != "" {
		role, err := pcr.Role(s.config.RoleARN)
		if err != nil {
			return err
		}
		registers.Put(3, role)
	}
	s.module, err = softnsm.New(softnsm.Config{
		Authority:     s.Authority,
		ModuleID:      issuer.NewModuleID(s.config.InstanceID, s.config.Now(), nil),
		PCRs:          registers,
		Debug:         s.config.Debug,
		IndefiniteMap: true,
		Now:           s.config.Now,
	})
	if err != nil {
		return err
	}
	s.ModuleID = s.module.ModuleID()
	listener, err := nsm.Listen(s.path(NSMSocket))
	if err != nil {
		return err
	}
	s.serve(func() error { return listener.Serve(ctx, s.module) })
	return nil
}

// serveKMS starts the key service and its admin socket.
func (s *Stack) serveKMS(ctx context.Context) error {
	handler, err := kmsserver.New(kmsserver.Config{KMS: s.KMS, Logger: s.config.Logger, Now: s.config.Now})
	if err != nil {
		return err
	}
	admin, err := adminsock.Listen(s.config.Dir)
	if err != nil {
		return err
	}
	s.serve(func() error { return adminsock.Serve(ctx, admin, s.KMS, s.config.Logger) })
	listener, err := kmsserver.Listen(ctx, s.config.Listen)
	if err != nil {
		return err
	}
	s.Endpoint = "http://" + listener.Addr().String()
	s.serve(func() error { return kmsserver.Serve(ctx, listener, handler, s.config.Logger) })
	s.serve(func() error {
		s.KMS.Run(ctx, func(err error) { s.config.Logger.Error("what is due could not be done", "cause", err.Error()) })
		return nil
	})
	return nil
}

// serve runs one of the servers until it ends. One that fails ends the stack.
func (s *Stack) serve(run func() error) {
	s.serving.Go(func() {
		if err := run(); err != nil {
			s.failed <- err
			s.cancel()
		}
	})
}

// Environment returns what a client needs, in the names of AWS's SDKs and ours.
func (s *Stack) Environment() [][2]string {
	return [][2]string{
		{"AWS_ENDPOINT_URL_KMS", s.Endpoint},
		{"AWS_ENDPOINT_URL_STS", s.Endpoint},
		{"AWS_ACCESS_KEY_ID", s.Admin.AccessKeyID},
		{"AWS_SECRET_ACCESS_KEY", s.Admin.SecretAccessKey},
		{"AWS_REGION", Region},
		{"AWS_DEFAULT_REGION", Region}, // which boto3 and the older AWS CLI read
		{"CRETULA_NSM_SOCKET", s.path(NSMSocket)},
		{"CRETULA_DATA_DIR", s.config.Dir},
	}
}

// environment returns lines that a POSIX shell reads with the dot command.
func (s *Stack) environment() []byte {
	var b strings.Builder
	for _, variable := range s.Environment() {
		fmt.Fprintf(&b, "export %s='%s'\n", variable[0], strings.ReplaceAll(variable[1], "'", `'\''`))
	}
	return []byte(b.String())
}

// Wait waits until ctx ends, which is no error, or one of the servers fails.
func (s *Stack) Wait(ctx context.Context) error {
	select {
	case <-ctx.Done():
		return nil
	case err := <-s.failed:
		return err
	}
}

// Close removes the environment file, lets calls under way end and closes the
// folder.
func (s *Stack) Close() error {
	if s.data == nil {
		s.cancel()
		return nil // the folder may be another process's
	}
	removeErr := os.Remove(s.path(EnvFile))
	if errors.Is(removeErr, fs.ErrNotExist) {
		removeErr = nil
	}
	s.cancel()
	s.serving.Wait()
	if s.module != nil {
		s.module.Close()
	}
	if s.KMS != nil {
		s.KMS.Close()
	}
	return errors.Join(removeErr, s.data.Close())
}
