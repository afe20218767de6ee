// SPDX-License-Identifier: Apache-2.0

package main

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
	"github.com/spf13/cobra"

	"github.com/cretula/cretula/internal/adminsock"
	"github.com/cretula/cretula/internal/cli"
	"github.com/cretula/cretula/internal/datadir"
	"github.com/cretula/cretula/kms"
	"github.com/cretula/cretula/kms/kmsapi"
	"github.com/cretula/cretula/kms/kmsserver"
	"github.com/cretula/cretula/policy/explain"
)

func newKMSExplain(env *cli.Env) *cobra.Command {
	var at where
	var asJSON bool
	var referenceFile string
	cmd := &cobra.Command{
		Use:   "explain ID",
		Short: "Say why the key service decided as it did",
		Long: `Prints why a request came out as it did. ID is that of the answer's header
x-cretula-decision.

It is asked of the service that runs on the data folder, or read from the folder's
audit log. Without a folder the service at $AWS_ENDPOINT_URL_KMS is asked, signed
with the AWS_ACCESS_KEY_ID of the environment: it answers those who may call
GetKeyPolicy on the key.

With --reference it also says which release the attestation document was of, and which
the policy wants.`,
		Example: `  $ cretula kms explain d-7f3a910c52be4f0896d1a2b3c4d5e6f7 --data-dir run
  $ cretula kms explain d-7f3a910c52be4f0896d1a2b3c4d5e6f7 --reference releases.json`,
		Args: exactArguments("ID"),
		RunE: func(cmd *cobra.Command, args []string) error {
			set, err := readReference(env, referenceFile)
			if err != nil {
				return err
			}
			event, err := findEvent(cmd.Context(), env, at, args[0])
			if errors.Is(err, kms.ErrNoDecision) {
				return cli.WithHint(fmt.Errorf("there is no decision %q", args[0]), "the id is in the header x-cretula-decision of the answer, d- and 32 digits")
			}
			if err != nil {
				return err
			}
			var names *releaseNames
			if set != nil {
				if names, err = nameReleases(set, event); err != nil {
					return err
				}
			}
			if asJSON {
				return printEvent(env, event, names)
			}
			text := event.Text()
			if names != nil {
				text += names.text(referenceFile)
			}
			_, err = io.WriteString(env.Stdout, text)
			return err
		},
	}
	whereFlags(cmd, &at)
	cmd.Flags().StringVar(&referenceFile, "reference", "", "`FILE` of reference values, to name releases by")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print a JSON object")
	return cmd
}

func printEvent(env *cli.Env, event *kms.Event, names *releaseNames) error {
	out := struct {
		Schema      string               `json:"schema"`
		Event       *kms.Event           `json:"event"`
		Explanation *explain.Explanation `json:"explanation,omitempty"`
		// Others are those of the decisions before, in the order of the event's.
		Others    []explain.Explanation `json:"other_explanations,omitempty"`
		Reference *releaseNames         `json:"reference,omitempty"`
	}{Schema: "cretula.kms.explanation.v1", Event: event, Reference: names}
	if event.Decision != nil {
		e := explain.Of(event.Decision)
		out.Explanation = &e
	}
	for i := range event.OtherDecisions {
		out.Others = append(out.Others, explain.Of(&event.OtherDecisions[i]))
	}
	return env.PrintJSON(out)
}

func findEvent(ctx context.Context, env *cli.Env, w where, id string) (*kms.Event, error) {
	endpoint, named := env.Getenv("AWS_ENDPOINT_URL_KMS"), w != where{}
	if named || env.Getenv(dataDirVariable) != "" {
		dir, err := w.folder(env)
		if err != nil {
			return nil, err
		}
		auditDir, err := (&auditPlace{where: w}).dir(env)
		if err != nil {
			return nil, err
		}
		event, err := findEventInFolder(ctx, dir, auditDir, id)
		if err == nil || errors.Is(err, kms.ErrNoDecision) || named || endpoint == "" {
			return event, err
		}
	}
	if endpoint == "" {
		return nil, cli.WithHint(cli.Usagef("no key service is named"),
			"give --config or --data-dir, or set %s or AWS_ENDPOINT_URL_KMS", dataDirVariable)
	}
	return askForEvent(ctx, env, endpoint, id)
}

func findEventInFolder(ctx context.Context, dir, auditDir, id string) (*kms.Event, error) {
	client, err := adminsock.Dial(ctx, dir)
	if errors.Is(err, adminsock.ErrNoServer) {
		event, err := datadir.FindEvent(ctx, auditDir, id)
		if errors.Is(err, datadir.ErrNone) {
			err = fmt.Errorf("%s: %w", dir, datadir.ErrNone)
		}
		return event, err
	}
	if err != nil {
		return nil, err
	}
	return client.Explain(ctx, id)
}

const (
	explainTimeout = 30 * time.Second
	maxExplanation = 4 << 20
)

// askForEvent sends a signed request to a key service.
func askForEvent(ctx context.Context, env *cli.Env, endpoint, id string) (*kms.Event, error) {
	credentials := aws.Credentials{
		AccessKeyID: env.Getenv("AWS_ACCESS_KEY_ID"), SecretAccessKey: env.Getenv("AWS_SECRET_ACCESS_KEY"), SessionToken: env.Getenv("AWS_SESSION_TOKEN"),
	}
	if credentials.AccessKeyID == "" || credentials.SecretAccessKey == "" {
		return nil, cli.WithHint(cli.Usagef("no credentials"), "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY")
	}
	body, err := json.Marshal(kms.ExplainInput{DecisionId: &id})
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, explainTimeout)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, strings.TrimSuffix(endpoint, "/")+"/", strings.NewReader(string(body)))
	if err != nil {
		return nil, cli.Usagef("AWS_ENDPOINT_URL_KMS: %v", err)
	}
	r.Header.Set("Content-Type", kmsapi.ContentType)
	r.Header.Set("X-Amz-Target", kmsserver.ExplainTarget)
	hash := sha256.Sum256(body)
	region := cmp.Or(env.Getenv("AWS_REGION"), env.Getenv("AWS_DEFAULT_REGION"), "us-east-1")
	if err := v4.NewSigner().SignHTTP(ctx, credentials, r, hex.EncodeToString(hash[:]), "kms", region, env.Now()); err != nil {
		return nil, err
	}
	answer, err := http.DefaultClient.Do(r)
	if err != nil {
		return nil, err
	}
	defer answer.Body.Close()
	text, err := io.ReadAll(io.LimitReader(answer.Body, maxExplanation))
	if err != nil {
		return nil, err
	}
	if answer.StatusCode != http.StatusOK {
		return nil, serviceError(answer.Status, text)
	}
	event := new(kms.Event)
	if err := json.Unmarshal(text, event); err != nil || event.Schema != kms.EventSchema {
		return nil, fmt.Errorf("%s: the answer is no explanation", endpoint)
	}
	return event, nil
}

// serviceError makes an error of a refusal by a key service.
func serviceError(status string, body []byte) error {
	var e struct {
		Type    string `json:"__type"`
		Message string `json:"message"` // in either case
	}
	if err := json.Unmarshal(body, &e); err != nil || e.Type == "" {
		return fmt.Errorf("the key service answered %s", status)
	}
	return fmt.Errorf("%s: %s", e.Type, e.Message)
}
