// SPDX-License-Identifier: Apache-2.0

package adminsock

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"syscall"

	"github.com/cretula/cretula/kms"
)

// maxAnswer is more than a list of a thousand principals needs.
const maxAnswer = 64 << 20

// A Client speaks with the key service of a data folder.
type Client struct{ http *http.Client }

// Dial returns a client of the service that runs on the folder. The error matches
// [ErrNoServer] if none does.
func Dial(ctx context.Context, dir string) (*Client, error) {
	if err := supported(); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrNoServer, err)
	}
	name, err := path(dir)
	if err != nil {
		return nil, err
	}
	var dialer net.Dialer
	conn, err := dialer.DialContext(ctx, "unix", name)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ECONNREFUSED) {
		return nil, ErrNoServer
	}
	if err != nil {
		return nil, err
	}
	conn.Close()
	return &Client{&http.Client{
		Timeout: writeTimeout,
		Transport: &http.Transport{
			DisableKeepAlives: true,
			DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
				return dialer.DialContext(ctx, "unix", name)
			},
		},
	}}, nil
}

func (c *Client) do(ctx context.Context, method, target string, in, out any) error {
	var body io.Reader
	if in != nil {
		encoded, err := json.Marshal(in)
		if err != nil {
			return err
		}
		body = bytes.NewReader(encoded)
	}
	r, err := http.NewRequestWithContext(ctx, method, "http://admin"+target, body)
	if err != nil {
		return err
	}
	answer, err := c.http.Do(r)
	if err != nil {
		return err
	}
	defer answer.Body.Close()
	return decode(answer, out)
}

// decode reads an answer, or the error that it is.
func decode(answer *http.Response, out any) error {
	encoded, err := io.ReadAll(io.LimitReader(answer.Body, maxAnswer))
	if err != nil {
		return err
	}
	if answer.StatusCode != http.StatusOK {
		e := &protocolError{}
		if err := json.Unmarshal(encoded, e); err != nil || e.Message == "" {
			return fmt.Errorf("adminsock: the key service answered %s", answer.Status)
		}
		return e
	}
	return json.Unmarshal(encoded, out)
}

// AddPrincipal is [kms.Server.AddPrincipal], with the same errors.
func (c *Client) AddPrincipal(ctx context.Context, p kms.Principal) (kms.Credentials, error) {
	var out kms.Credentials
	err := c.do(ctx, http.MethodPost, "/principals", p, &out)
	return out, err
}

// ListPrincipals is [kms.Server.ListPrincipals].
func (c *Client) ListPrincipals(ctx context.Context) ([]kms.PrincipalInfo, error) {
	var out principalList
	err := c.do(ctx, http.MethodGet, "/principals", nil, &out)
	return out.Principals, err
}

// RemovePrincipal is [kms.Server.RemovePrincipal], with the same errors.
func (c *Client) RemovePrincipal(ctx context.Context, name, account string) (kms.PrincipalInfo, error) {
	var out kms.PrincipalInfo
	target := "/principals?" + url.Values{"name": {name}, "account": {account}}.Encode()
	err := c.do(ctx, http.MethodDelete, target, nil, &out)
	return out, err
}

func named(path, name, account string) string {
	return path + "?" + url.Values{"name": {name}, "account": {account}}.Encode()
}

// FindPrincipal is [kms.Server.FindPrincipal], with the same errors.
func (c *Client) FindPrincipal(ctx context.Context, name, account string) (kms.PrincipalInfo, error) {
	var out kms.PrincipalInfo
	err := c.do(ctx, http.MethodGet, named("/principal", name, account), nil, &out)
	return out, err
}

// ChangePrincipal is [kms.Server.ChangePrincipal], with the same errors.
func (c *Client) ChangePrincipal(ctx context.Context, name, account string, change kms.PrincipalChange) (kms.PrincipalInfo, error) {
	var out kms.PrincipalInfo
	err := c.do(ctx, http.MethodPatch, named("/principal", name, account), change, &out)
	return out, err
}

// CreateAccessKey is [kms.Server.CreateAccessKey], with the same errors.
func (c *Client) CreateAccessKey(ctx context.Context, name, account string) (kms.Credentials, error) {
	var out kms.Credentials
	err := c.do(ctx, http.MethodPost, named("/access-keys", name, account), nil, &out)
	return out, err
}

// SetAccessKeyActive is [kms.Server.SetAccessKeyActive], with the same errors.
func (c *Client) SetAccessKeyActive(ctx context.Context, id string, active bool) (kms.PrincipalInfo, error) {
	var out kms.PrincipalInfo
	err := c.do(ctx, http.MethodPatch, "/access-keys?"+url.Values{"id": {id}, "active": {strconv.FormatBool(active)}}.Encode(), nil, &out)
	return out, err
}

// DeleteAccessKey is [kms.Server.DeleteAccessKey], with the same errors.
func (c *Client) DeleteAccessKey(ctx context.Context, id string) (kms.PrincipalInfo, error) {
	var out kms.PrincipalInfo
	err := c.do(ctx, http.MethodDelete, "/access-keys?"+url.Values{"id": {id}}.Encode(), nil, &out)
	return out, err
}

// ListTokenKeys is [kms.Server.ListTokenKeys].
func (c *Client) ListTokenKeys(ctx context.Context) ([]kms.TokenKeyInfo, error) {
	var out []kms.TokenKeyInfo
	err := c.do(ctx, http.MethodGet, "/token-keys", nil, &out)
	return out, err
}

// RotateTokenKey is [kms.Server.RotateTokenKey].
func (c *Client) RotateTokenKey(ctx context.Context, retire bool) error {
	var out struct{}
	return c.do(ctx, http.MethodPost, "/token-keys?"+url.Values{"retire": {strconv.FormatBool(retire)}}.Encode(), nil, &out)
}

// Explain is [kms.Server.Explain], with the same errors.
func (c *Client) Explain(ctx context.Context, id string) (*kms.Event, error) {
	out := new(kms.Event)
	err := c.do(ctx, http.MethodGet, "/decisions?"+url.Values{"id": {id}}.Encode(), nil, out)
	return out, err
}

// AuditHeads is [kms.Server.AuditHeads].
func (c *Client) AuditHeads(ctx context.Context) ([][]byte, error) {
	var out [][]byte
	err := c.do(ctx, http.MethodGet, "/audit-heads", nil, &out)
	return out, err
}
