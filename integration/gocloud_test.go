// SPDX-License-Identifier: Apache-2.0

package integration

import (
	"context"
	"errors"
	"fmt"
	"testing"

	"github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/smithy-go"
	"gocloud.dev/gcerrors"
	"gocloud.dev/secrets"
	"gocloud.dev/secrets/awskms"
	"gocloud.dev/secrets/driver"
	"gocloud.dev/secrets/drivertest"
)

// A keeperDriver gives the conformance tests, which want a driver, the keeper
// that package awskms opens: its driver is not exported. Their own tests of it
// replay recorded answers.
type keeperDriver struct{ *secrets.Keeper }

// ErrorAs is that of the keeper, whose errors the tests look at.
func (d keeperDriver) ErrorAs(err error, target any) bool { return d.Keeper.ErrorAs(err, target) }

// ErrorCode is the code that the keeper gave its error.
func (d keeperDriver) ErrorCode(err error) gcerrors.ErrorCode { return gcerrors.Code(err) }

// A keeperHarness opens its two keepers by the aliases of two keys.
type keeperHarness struct{ client *kms.Client }

const (
	alias1 = "alias/test-secrets"
	alias2 = "alias/test-secrets2"
)

func (h keeperHarness) MakeDriver(context.Context) (driver.Keeper, driver.Keeper, error) {
	return keeperDriver{awskms.OpenKeeper(h.client, alias1, nil)}, keeperDriver{awskms.OpenKeeper(h.client, alias2, nil)}, nil
}

func (keeperHarness) Close() {}

// createAlias makes a new key and names it.
func (s *server) createAlias(t *testing.T, alias string) (arn string) {
	t.Helper()
	id, arn := s.createKey(t)
	if _, err := s.client(s.admin()).CreateAlias(t.Context(), &kms.CreateAliasInput{AliasName: &alias, TargetKeyId: &id}); err != nil {
		t.Fatal(err)
	}
	return arn
}

// The Go CDK's conformance tests of a driver of secrets.
func TestGoCloudConformance(t *testing.T) {
	s := start(t)
	s.createAlias(t, alias1)
	s.createAlias(t, alias2)
	newHarness := func(context.Context, *testing.T) (drivertest.Harness, error) {
		return keeperHarness{s.client(s.admin())}, nil
	}
	drivertest.RunConformanceTests(t, newHarness, []drivertest.AsTest{asInvalidCiphertext{}})
}

// asInvalidCiphertext checks that the SDK's error shows behind the keeper's.
type asInvalidCiphertext struct{}

func (asInvalidCiphertext) Name() string { return "the SDK's error" }

func (asInvalidCiphertext) ErrorCheck(k *secrets.Keeper, err error) error {
	var failure smithy.APIError
	if !k.ErrorAs(err, &failure) {
		return errors.New("Keeper.ErrorAs failed")
	}
	if failure.ErrorCode() != "InvalidCiphertextException" {
		return fmt.Errorf("code %s", failure.ErrorCode())
	}
	return nil
}

// What users of the Go CDK see of the service's errors.
func TestGoCloudErrors(t *testing.T) {
	s := start(t)
	arn := s.createAlias(t, alias1)
	client, ctx := s.client(s.admin()), t.Context()
	nobody := s.client(s.addUser(t, "nobody", ""))
	plaintext := []byte("x")
	keeper := awskms.OpenKeeper(client, arn, nil)
	sealed, err := keeper.Encrypt(ctx, plaintext)
	if err != nil {
		t.Fatal(err)
	}
	encrypt := func(client *kms.Client, key string) error {
		_, err := awskms.OpenKeeper(client, key, nil).Encrypt(ctx, plaintext)
		return err
	}
	decrypt := func(client *kms.Client, options *awskms.KeeperOptions, sealed []byte) error {
		_, err := awskms.OpenKeeper(client, arn, options).Decrypt(ctx, sealed)
		return err
	}
	wantGoCloud(t, "Encrypt with an absent key", encrypt(client, absentKey), gcerrors.NotFound, "NotFoundException")
	wantGoCloud(t, "Encrypt with an absent alias", encrypt(client, "alias/absent"), gcerrors.NotFound, "NotFoundException")
	wantGoCloud(t, "Encrypt with no key's name", encrypt(client, "no key"), gcerrors.NotFound, "NotFoundException")
	wantGoCloud(t, "Decrypt of garbage", decrypt(client, nil, []byte("x")), gcerrors.InvalidArgument, "InvalidCiphertextException")
	inContext := &awskms.KeeperOptions{EncryptionContext: map[string]string{"a": "b"}}
	wantGoCloud(t, "Decrypt in another context", decrypt(client, inContext, sealed), gcerrors.InvalidArgument, "InvalidCiphertextException")
	// The Go CDK has no code for AccessDeniedException and ValidationException:
	// the SDK does not model them.
	wantGoCloud(t, "Encrypt as nobody", encrypt(nobody, arn), gcerrors.Unknown, "AccessDeniedException")
	wantGoCloud(t, "Decrypt as nobody", decrypt(nobody, nil, sealed), gcerrors.Unknown, "AccessDeniedException")
	wantGoCloud(t, "Decrypt of nothing", decrypt(client, nil, []byte{}), gcerrors.Unknown, "ValidationException")
	_, err = keeper.Encrypt(ctx, make([]byte, 4097))
	wantGoCloud(t, "Encrypt of too much", err, gcerrors.Unknown, "ValidationException")

	if _, err := client.DisableKey(ctx, &kms.DisableKeyInput{KeyId: &arn}); err != nil {
		t.Fatal(err)
	}
	wantGoCloud(t, "Encrypt with a disabled key", encrypt(client, alias1), gcerrors.PermissionDenied, "DisabledException")
	wantGoCloud(t, "Decrypt with a disabled key", decrypt(client, nil, sealed), gcerrors.PermissionDenied, "DisabledException")
	if _, err := client.ScheduleKeyDeletion(ctx, &kms.ScheduleKeyDeletionInput{KeyId: &arn}); err != nil {
		t.Fatal(err)
	}
	wantGoCloud(t, "Encrypt with a key to be deleted", encrypt(client, arn), gcerrors.FailedPrecondition, "KMSInvalidStateException")
	wantGoCloud(t, "Decrypt with a key to be deleted", decrypt(client, nil, sealed), gcerrors.FailedPrecondition, "KMSInvalidStateException")
}

func wantGoCloud(t *testing.T, what string, err error, code gcerrors.ErrorCode, aws string) {
	t.Helper()
	wantCode(t, what, err, aws)
	if got := gcerrors.Code(err); err != nil && got != code {
		t.Errorf("%s: the Go CDK says %v, want %v", what, got, code)
	}
}

// Keepers are opened by URLs, and find the rest in the environment.
func TestGoCloudURL(t *testing.T) {
	s := start(t)
	arn := s.createAlias(t, alias1)
	s.exportEnv(t, s.admin())
	t.Setenv("AWS_REGION", "eu-west-1") // the URL's goes before
	open := func(url string) *secrets.Keeper {
		keeper, err := secrets.OpenKeeper(t.Context(), url)
		if err != nil {
			t.Fatalf("%s: %v", url, err)
		}
		t.Cleanup(func() { keeper.Close() })
		return keeper
	}
	query := "?region=" + s.region()
	byAlias := open("awskms://" + alias1 + query)
	byARN := open("awskms:///" + arn + query)
	byAliasARN := open("awskms:///arn:aws:kms:" + s.region() + ":000000000000:" + alias1 + query)
	for _, keeper := range []*secrets.Keeper{byAlias, byARN, byAliasARN} {
		sealed, err := keeper.Encrypt(t.Context(), []byte("x"))
		if err != nil {
			t.Fatal(err)
		}
		if opened, err := byAlias.Decrypt(t.Context(), sealed); err != nil || string(opened) != "x" {
			t.Errorf("decrypted %q, %v", opened, err)
		}
	}
	inContext := open("awskms://" + alias1 + query + "&context_table=orders&context_row=7")
	sealed, err := inContext.Encrypt(t.Context(), []byte("x"))
	if err != nil {
		t.Fatal(err)
	}
	if opened, err := inContext.Decrypt(t.Context(), sealed); err != nil || string(opened) != "x" {
		t.Errorf("decrypted %q, %v", opened, err)
	}
	_, err = byAlias.Decrypt(t.Context(), sealed)
	wantGoCloud(t, "Decrypt without the context", err, gcerrors.InvalidArgument, "InvalidCiphertextException")
	_, err = open("awskms://"+alias1).Encrypt(t.Context(), []byte("x"))
	wantGoCloud(t, "Encrypt in another region", err, gcerrors.NotFound, "NotFoundException")
}
