// SPDX-License-Identifier: Apache-2.0

package kmsapi

import "regexp"

// A pattern is a regular expression of the model: a string satisfies it if all of
// the string matches.
type pattern struct {
	// text is what AWS's messages show, in the syntax of Java.
	text string
	re   *regexp.Regexp
}

// patterns has the model's regular expressions by the name that the tags of the
// shapes use.
var patterns = compilePatterns(map[string]string{
	"AccountId":                         `[0-9]{12}`,
	"Arn":                               `[\u0009\u000A\u000D\u0020-\u007E\u0085\u00A0-\uD7FF\uE000-\uFFFD\u10000-\u10FFFF]+`,
	"AliasName":                         `^[a-zA-Z0-9:/_-]+$`,
	"CloudHsmClusterId":                 `cluster-[2-7a-zA-Z]{11,16}`,
	"ExternalId":                        `[\w+=,.@:\/-]*`,
	"GrantName":                         `^[a-zA-Z0-9:/_-]+$`,
	"KeyMaterialDescription":            `^[a-zA-Z0-9:/_\s.-]+$`,
	"KeyMaterialId":                     `^[a-f0-9]+$`,
	"Marker":                            `[\u0020-\u00FF]*`,
	"Policy":                            `[\u0009\u000A\u000D\u0020-\u00FF]+`,
	"PolicyName":                        `[\w]+`,
	"PrincipalId":                       `^[\w+=,.@:/-]+$`,
	"Region":                            `^([a-z]+-){2,3}\d+$`,
	"RoleSessionName":                   `[\w+=,.@-]*`,
	"SessionTagKey":                     `[\p{L}\p{Z}\p{N}_.:/=+\-@]+`,
	"SessionTagValue":                   `[\p{L}\p{Z}\p{N}_.:/=+\-@]*`,
	"ServicePrincipal":                  `^([A-Za-z0-9\-]+)\.([A-Za-z0-9\-]+)(\.[A-Za-z0-9\-]+)+$`,
	"SourceArn":                         `^arn:aws[a-z0-9-]*:[a-z0-9-]+:[a-z0-9-]*:[0-9]{12}:.+$`,
	"XksKeyId":                          `^[a-zA-Z0-9-_.]+$`,
	"XksProxyAuthenticationAccessKeyId": `^[A-Z2-7]+$`,
	"XksProxyAuthenticationRawSecretAccessKey": `^[a-zA-Z0-9\/+=]+$`,
	"XksProxyUriEndpoint":                      `^https://[a-zA-Z0-9.-]+$`,
	"XksProxyUriPath":                          `^(/[a-zA-Z0-9\/_-]+/kms/xks/v\d{1,2})$|^(/kms/xks/v\d{1,2})$`,
	"XksProxyVpcEndpointServiceName":           `^(com|eu)\.amazonaws\.vpce\.([a-z]+-){2,3}\d+\.vpce-svc-[0-9a-z]+$`,
})

var javaEscape = regexp.MustCompile(`\\u([0-9A-F]{4})`)

func compilePatterns(texts map[string]string) map[string]*pattern {
	compiled := make(map[string]*pattern, len(texts))
	for name, text := range texts {
		goText := javaEscape.ReplaceAllString(text, `\x{$1}`)
		compiled[name] = &pattern{text: text, re: regexp.MustCompile(`\A(?:` + goText + `)\z`)}
	}
	return compiled
}
