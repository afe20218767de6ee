// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"crypto/sha512"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"

	"github.com/cretula/cretula/internal/cli"
	"github.com/cretula/cretula/internal/nitrocli"
	"github.com/cretula/cretula/pcr"
	"github.com/cretula/cretula/reason"
)

// nitroDescribeEIF describes an image. Every failure is E35, as there; what there
// is described whatever its checksum, table and dates say, is refused here.
func nitroDescribeEIF(ctx context.Context, env *cli.Env, call *nitrocli.Call) error {
	name, _ := call.Get("eif-path")
	im, f, err := openImage(env, name)
	if err != nil {
		return nitroFail(nitrocli.ImageParsing, err)
	}
	defer f.Close()
	measurements, err := f.measure(ctx, im)
	if err != nil {
		return nitroFail(nitrocli.ImageParsing, err)
	}
	var refused error
	if s := im.Signature(); s != nil {
		pcr0, _ := measurements.Get(0)
		refused = inFile(name, s.Verify(pcr0, env.Now()))
	}
	if notSigned(refused) {
		// nitro-cli does not describe such an image, either.
		return nitroFail(nitrocli.ImageParsing, refused)
	}
	if err := nitroPrint(env, im.Describe(measurements)); err != nil {
		return err
	}
	if refused != nil {
		return nitroFail(nitrocli.SignatureChecking, refused)
	}
	return nil
}

// notSigned tells whether a signature was refused because the certificate's key did
// not make it, whatever it is over and whatever the date.
func notSigned(err error) bool {
	refusal, ok := errors.AsType[*reason.Error](err)
	return ok && slices.ContainsFunc(refusal.Problems, func(p reason.Problem) bool {
		return p.Reason == reason.BadSignature || p.Reason == reason.Unsupported
	})
}

// nitroPCR computes the register that a file, or a certificate, would give. Of a
// file with a role's ARN that is not PCR3, which has no hash of the text inside.
func nitroPCR(ctx context.Context, env *cli.Env, call *nitrocli.Call) error {
	if name, given := call.Get("signing-certificate"); given {
		data, err := env.ReadInput(name, maxCertificateFile)
		if err != nil {
			return nitroFail(nitrocli.FileOperation, err)
		}
		d, err := pcr.CertificatePEM(data)
		if err != nil {
			return nitroFail(nitrocli.Hasher, inFile(name, err))
		}
		return nitroPrint(env, map[string]pcr.Digest{"PCR8": d})
	}
	name, _ := call.Get("input")
	d, err := measureFile(ctx, name)
	if errors.Is(err, context.Canceled) {
		return err
	}
	if err != nil {
		return nitroFail(nitrocli.FileOperation, err)
	}
	return nitroPrint(env, map[string]pcr.Digest{"PCR": d})
}

// measureFile extends a zero register with the hash of a file, which may be a pipe.
func measureFile(ctx context.Context, name string) (pcr.Digest, error) {
	hash := sha512.New384()
	done := make(chan error, 1)
	go func() {
		f, err := os.Open(name)
		if err == nil {
			_, err = io.Copy(hash, f)
			f.Close()
		}
		done <- err
	}()
	select {
	case err := <-done:
		if err != nil {
			return pcr.Digest{}, err
		}
		return pcr.Measured(pcr.Digest(hash.Sum(nil))), nil
	case <-ctx.Done():
		return pcr.Digest{}, ctx.Err()
	}
}

// nitroExplain explains a code, on standard error, and succeeds for one that does
// not exist, too, as there.
func nitroExplain(_ context.Context, env *cli.Env, call *nitrocli.Call) error {
	code, _ := call.Get("error-code")
	fmt.Fprintln(env.Stderr, nitrocli.Explain(code))
	return nil
}
