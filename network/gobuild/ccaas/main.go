// Ccaas is the external builder by which a peer takes chaincode that runs as a server of its own ("ccaas" packages).
//
// The peer calls it by three names: detect, build and release. The package's connection.json holds templates such as
// {{.address}}; build fills them in from the peer's CHAINCODE_AS_A_SERVICE_BUILDER_CONFIG (a JSON object), so that one
// package, and so one package id, serves every organisation. A key "file" in that object names a further JSON file
// whose keys count too: keys and certificates then stay out of the environment, and chaincode added later needs no
// restart of the peer. Where a peer has several chaincodes, a key LABEL/KEY goes before KEY for the package of that label.
package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"text/template"
)

const (
	configuration   = "CHAINCODE_AS_A_SERVICE_BUILDER_CONFIG"
	notOurs         = 2
	connectionLimit = 1 << 20
)

func main() {
	name, arguments := filepath.Base(os.Args[0]), os.Args[1:]
	steps := map[string]struct {
		arguments int
		run       func([]string) error
	}{
		"detect":  {2, detect},
		"build":   {3, build},
		"release": {2, release},
	}
	step, known := steps[name]
	if !known || len(arguments) != step.arguments {
		fmt.Fprintln(os.Stderr, "usage: detect SOURCE METADATA | build SOURCE METADATA OUTPUT | release BUILD RELEASE")
		os.Exit(1)
	}
	if err := step.run(arguments); err != nil {
		fmt.Fprintf(os.Stderr, "ccaas %s: %v\n", name, err)
		if errors.Is(err, errNotOurs) {
			os.Exit(notOurs)
		}
		os.Exit(1)
	}
}

var errNotOurs = errors.New("the package is not of type ccaas")

type packageMetadata struct {
	Type  string `json:"type"`
	Label string `json:"label"`
}

func detect(arguments []string) error {
	var metadata packageMetadata
	if err := readJSON(filepath.Join(arguments[1], "metadata.json"), &metadata); err != nil {
		return err
	}
	if metadata.Type != "ccaas" {
		return errNotOurs
	}
	return nil
}

func build(arguments []string) error {
	source, output := arguments[0], arguments[2]
	var metadata packageMetadata
	if err := readJSON(filepath.Join(arguments[1], "metadata.json"), &metadata); err != nil {
		return err
	}
	values, err := peerValues(metadata.Label)
	if err != nil {
		return err
	}
	var connection map[string]any
	if err := readJSON(filepath.Join(source, "connection.json"), &connection); err != nil {
		return err
	}
	for key, value := range connection {
		text, isText := value.(string)
		if !isText {
			continue
		}
		filled, err := fill(text, values)
		if err != nil {
			return fmt.Errorf("connection.json, %s: %w", key, err)
		}
		connection[key] = filled
	}
	data, err := json.Marshal(connection)
	if err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(output, "connection.json"), data, 0o600); err != nil {
		return err
	}
	return copyFolder(filepath.Join(source, "META-INF"), filepath.Join(output, "META-INF"))
}

func release(arguments []string) error {
	built, released := arguments[0], arguments[1]
	data, err := os.ReadFile(filepath.Join(built, "connection.json"))
	if err != nil {
		return err
	}
	server := filepath.Join(released, "chaincode", "server")
	if err := os.MkdirAll(server, 0o700); err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(server, "connection.json"), data, 0o600); err != nil {
		return err
	}
	return copyFolder(filepath.Join(built, "META-INF", "statedb"), filepath.Join(released, "statedb"))
}

// peerValues are what this peer puts in the place of the templates in the package of this label.
func peerValues(label string) (map[string]string, error) {
	values := map[string]string{}
	text := os.Getenv(configuration)
	if text == "" {
		return values, nil
	}
	if err := json.Unmarshal([]byte(text), &values); err != nil {
		return nil, fmt.Errorf("%s: %w", configuration, err)
	}
	if file := values["file"]; file != "" {
		if err := readJSON(file, &values); err != nil {
			return nil, err
		}
	}
	for key, value := range values {
		if name, own := strings.CutPrefix(key, label+"/"); own {
			values[name] = value
		}
	}
	return values, nil
}

func fill(text string, values map[string]string) (string, error) {
	parsed, err := template.New("value").Option("missingkey=error").Parse(text)
	if err != nil {
		return "", err
	}
	var filled bytes.Buffer
	if err := parsed.Execute(&filled, values); err != nil {
		return "", err
	}
	return filled.String(), nil
}

func readJSON(path string, into any) error {
	info, err := os.Stat(path)
	if err != nil {
		return err
	}
	if info.Size() > connectionLimit {
		return fmt.Errorf("%s is larger than %d bytes", path, connectionLimit)
	}
	data, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	if err := json.Unmarshal(data, into); err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	return nil
}

func copyFolder(source, target string) error {
	if _, err := os.Stat(source); errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return os.CopyFS(target, os.DirFS(source))
}
