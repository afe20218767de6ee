// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"net"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	awskms "github.com/aws/aws-sdk-go-v2/service/kms"

	"github.com/cretula/cretula/attestation/issuer"
	"github.com/cretula/cretula/eif/eifbuild"
	"github.com/cretula/cretula/internal/cli"
	"github.com/cretula/cretula/internal/stack"
	"github.com/cretula/cretula/kms"
	"github.com/cretula/cretula/launch"
	"github.com/cretula/cretula/pcr"
	"github.com/cretula/cretula/policy/generate"
)

// demoRole is the only role that may use the demo's key.
const demoRole = "data-processing"

// enclaveTimeout bounds one run of the demo's enclave.
const enclaveTimeout = 60 * time.Second

// A demo is one run of the story.
type demo struct {
	env   *cli.Env
	dir   string
	story io.Writer
	start time.Time
	steps []demoStep

	imagePath    string
	measurements pcr.Measurements
	stack        *stack.Stack
	rootPEM      []byte
	role         kms.Credentials
	policy       []byte
	job          demoJob
	secret       []byte
	report       demoReport // of the run that got the secret
}

func (d *demo) stackDir() string { return filepath.Join(d.dir, "run") }

// play runs all steps. An error says which step did not come out as it must.
func (d *demo) play(ctx context.Context) error {
	fmt.Fprintln(d.story, "cretula demo: an enclave image, an attested key, and four ways to be refused")
	fmt.Fprintln(d.story, "everything here is EMULATED: the root of trust is one made on this machine, for this run")
	fmt.Fprintln(d.story)
	for _, step := range []struct {
		name string
		run  func(context.Context, *demoStep) error
	}{
		{"image", d.buildImage},
		{"key", d.makeKey},
		{"enclave", d.runEnclave},
		{"refused-application", d.changeApplication},
		{"refused-debug", d.debugMode},
		{"refused-no-recipient", d.noRecipient},
		{"refused-root", d.foreignRoot},
	} {
		s := demoStep{Name: step.name}
		err := step.run(ctx, &s)
		if err != nil {
			s.Outcome, s.Error = "failed", err.Error()
		}
		d.steps = append(d.steps, s)
		if err != nil {
			return fmt.Errorf("demo: step %d, %s: %w", len(d.steps), step.name, err)
		}
	}
	fmt.Fprintf(d.story, "\nall %d steps as they must be, %.1f s.  Next: cretula up --data-dir DIR, or read docs/architecture.md\n",
		len(d.steps), time.Since(d.start).Seconds())
	return nil
}

// tell prints one step: its number and name before the first line.
func (d *demo) tell(name string, lines ...string) {
	for i, line := range lines {
		if i == 0 {
			fmt.Fprintf(d.story, "%d  %-9s %s\n", len(d.steps)+1, name, line)
		} else {
			fmt.Fprintf(d.story, "%12s %s\n", "", line)
		}
	}
}

func (d *demo) buildImage(ctx context.Context, s *demoStep) error {
	program, err := ownProgram()
	if err != nil {
		return err
	}
	d.imagePath = filepath.Join(d.dir, "app.eif")
	if d.measurements, err = stack.BuildImage(ctx, d.imagePath, program, demoArguments...); err != nil {
		return err
	}
	info, err := os.Stat(d.imagePath)
	if err != nil {
		return err
	}
	s.Outcome, s.ImageBytes, s.PCRs = outcomeOK, info.Size(), &d.measurements.Set
	s.StandIns = []string{"kernel"}
	d.tell("image",
		fmt.Sprintf("app.eif   %.1f MB around this very program; the kernel is a stand-in", float64(info.Size())/1e6),
		registers(&d.measurements.Set))
	return nil
}

// registers prints PCR0, PCR1 and PCR2 so that a person can compare them.
func registers(set *pcr.Set) string {
	var parts []string
	for i := range pcr.Index(3) {
		digest, _ := set.Get(i)
		parts = append(parts, fmt.Sprintf("%v %s", i, digest.Short()))
	}
	return strings.Join(parts, "   ")
}

func (d *demo) makeKey(ctx context.Context, s *demoStep) (err error) {
	d.stack, err = stack.Start(ctx, stack.Config{Dir: d.stackDir(), Listen: "127.0.0.1:0", Image: d.imagePath, Now: d.env.Now})
	if err != nil {
		return err
	}
	d.rootPEM = stack.RootPEM(d.stack.Authority)
	role := kms.Principal{Type: kms.Role, Name: demoRole, Account: stack.Account}
	if d.role, err = d.stack.KMS.AddPrincipal(ctx, role); err != nil {
		return err
	}
	admin := "arn:aws:iam::" + stack.Account + ":user/" + kms.AdminName
	d.policy, err = generate.KeyPolicy(generate.Config{
		Account:        stack.Account,
		Administrators: []string{admin},
		EnclaveRoles:   []string{role.IdentityARN()},
		Images:         []generate.Image{generate.Exactly(d.measurements.Set)},
	})
	if err != nil {
		return err
	}
	client := d.client(d.stack.Admin)
	key, err := client.CreateKey(ctx, &awskms.CreateKeyInput{
		Description: aws.String("key of the demo"), Policy: aws.String(string(d.policy)),
	})
	if err != nil {
		return err
	}
	if err := d.sealSecret(ctx, client, aws.ToString(key.KeyMetadata.Arn)); err != nil {
		return err
	}
	s.Outcome, s.KeyID, s.Role, s.Policy = outcomeOK, d.job.KeyID, role.IdentityARN(), json.RawMessage(d.policy)
	d.tell("key", d.job.KeyID+"  in a new store",
		"Decrypt and GenerateDataKey for role "+demoRole+" only, and only out of this image",
		"the administrator has sealed a secret under it and cannot open it; PutKeyPolicy",
		"remains the administrator's, so whoever administers the key can change all this")
	return nil
}

// sealSecret lets the administrator encrypt a secret, which it must not be able
// to decrypt, and notes what an enclave needs to ask for it.
func (d *demo) sealSecret(ctx context.Context, client *awskms.Client, keyID string) error {
	d.secret = make([]byte, 32)
	rand.Read(d.secret)
	d.job = demoJob{
		Region: stack.Region, Endpoint: d.stack.Endpoint,
		AccessKeyID: d.role.AccessKeyID, SecretAccessKey: d.role.SecretAccessKey,
		KeyID: keyID, EncryptionContext: map[string]string{"purpose": "cretula-demo"},
	}
	sealed, err := client.Encrypt(ctx, &awskms.EncryptInput{
		KeyId: aws.String(keyID), Plaintext: d.secret, EncryptionContext: d.job.EncryptionContext,
	})
	if err != nil {
		return err
	}
	d.job.Ciphertext = sealed.CiphertextBlob
	_, err = client.Decrypt(ctx, &awskms.DecryptInput{
		KeyId: aws.String(keyID), CiphertextBlob: d.job.Ciphertext, EncryptionContext: d.job.EncryptionContext,
	})
	if code, _, _ := describeAWSError(err); err == nil || code != "AccessDeniedException" {
		return fmt.Errorf("the administrator must not open what it has sealed: %v", err)
	}
	return nil
}

// client is an unmodified client of AWS's SDK.
func (d *demo) client(c kms.Credentials) *awskms.Client {
	return awskms.New(awskms.Options{
		Region:       stack.Region,
		BaseEndpoint: aws.String(d.stack.Endpoint),
		Credentials:  credentials.NewStaticCredentialsProvider(c.AccessKeyID, c.SecretAccessKey, ""),
		Retryer:      aws.NopRetryer{},
	})
}

func (d *demo) runEnclave(ctx context.Context, s *demoStep) error {
	enclave, report, err := d.launch(ctx, d.imagePath, d.stack.Authority, false)
	if err != nil {
		return err
	}
	if report.ErrorCode != "" {
		return fmt.Errorf("the enclave was refused: %s: %s", report.ErrorCode, report.ErrorMessage)
	}
	mac := hmac.New(sha256.New, d.secret)
	mac.Write(d.job.Challenge)
	if !hmac.Equal(report.Proof, mac.Sum(nil)) {
		return errors.New("the enclave has not the secret that was sealed")
	}
	if len(report.Document) == 0 || len(report.Envelope) == 0 {
		return errors.New("the call went without document or envelope")
	}
	d.report = report
	isolation := enclave.Isolation()
	if err := report.Around.check(isolation.Isolated); err != nil {
		return err
	}
	s.Outcome, s.ModuleID = outcomeOK, enclave.ModuleID()
	s.Isolated, s.IsolationLacks = &isolation.Isolated, isolation.Why
	s.DocumentBytes, s.EnvelopeBytes, s.SecretSHA256 = len(report.Document), len(report.Envelope), report.SecretSHA256
	s.CallMillis = math.Round(float64(report.CallMicros)/100) / 10
	lines := []string{"started, registers 0–15 locked, module " + enclave.ModuleID()}
	if isolation.Isolated {
		lines = append(lines, "isolated: no network, no environment but the image's, only an NSM and a way to the key service")
		for _, missing := range isolation.Why {
			lines = append(lines, "but "+missing)
		}
	} else {
		lines = append(lines, "NOT ISOLATED: "+strings.Join(isolation.Why, "; "))
	}
	lines = append(lines,
		fmt.Sprintf("attested and decrypted in %.1f ms: document %d bytes, CiphertextForRecipient %d bytes", s.CallMillis, s.DocumentBytes, s.EnvelopeBytes),
		fmt.Sprintf("the secret is there: SHA-256 %s…%s  ✓ as sealed", report.SecretSHA256[:8], report.SecretSHA256[60:]))
	d.tell("enclave", lines...)
	return nil
}

// launch runs an image once and returns what its application reports.
func (d *demo) launch(ctx context.Context, imagePath string, authority *issuer.Authority, debug bool) (*launch.Enclave, demoReport, error) {
	ctx, cancel := context.WithTimeout(ctx, enclaveTimeout)
	defer cancel()
	image, err := os.Open(imagePath)
	if err != nil {
		return nil, demoReport{}, err
	}
	defer image.Close()
	d.job.Challenge = make([]byte, 32)
	rand.Read(d.job.Challenge)
	reports := make(chan demoReport, 1)
	var output bytes.Buffer
	enclave, err := launch.Start(ctx, launch.Config{
		Image:      image,
		Authority:  authority,
		InstanceID: stack.DefaultInstanceID,
		Debug:      debug,
		Stdout:     &output,
		Stderr:     &output,
		Now:        d.env.Now,
		Egress: map[string]launch.Dialer{
			kmsService:    dialEndpoint(d.stack.Endpoint),
			parentService: func(context.Context) (net.Conn, error) { return d.parent(reports), nil },
		},
	})
	if err != nil {
		return nil, demoReport{}, err
	}
	if err := enclave.Wait(); err != nil {
		return nil, demoReport{}, fmt.Errorf("the enclave's application: %w\n%s", err, output.Bytes())
	}
	select {
	case report := <-reports:
		return enclave, report, nil
	default:
		return nil, demoReport{}, fmt.Errorf("the enclave's application reported nothing\n%s", output.Bytes())
	}
}

func dialEndpoint(endpoint string) launch.Dialer {
	return func(ctx context.Context) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "tcp", strings.TrimPrefix(endpoint, "http://"))
	}
}

// parent returns the enclave's end of a connection over which it gets its job
// and delivers its report.
func (d *demo) parent(reports chan<- demoReport) net.Conn {
	inside, outside := net.Pipe()
	go func() {
		defer outside.Close()
		if json.NewEncoder(outside).Encode(d.job) != nil {
			return
		}
		var report demoReport
		if json.NewDecoder(io.LimitReader(outside, 1<<20)).Decode(&report) == nil {
			reports <- report
		}
	}()
	return inside
}

// changedProgram is this program with one byte changed, as another release of
// the application would have.
func changedProgram() (eifbuild.Content, error) {
	path, err := os.Executable()
	if err != nil {
		return eifbuild.Content{}, err
	}
	data, err := os.ReadFile(path)
	if err != nil {
		return eifbuild.Content{}, err
	}
	if n := bytes.Count(data, release); n != 1 {
		return eifbuild.Content{}, fmt.Errorf("the release is %d times in %s, not once", n, path)
	}
	data[bytes.Index(data, release)+len(release)-2]++
	return eifbuild.Bytes(data), nil
}
