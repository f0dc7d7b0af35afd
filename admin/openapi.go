package admin

import (
	_ "embed" // openapi.yaml
	"net/http"
)

// openAPI describes the API of Door.
//
//go:embed openapi.yaml
var openAPI []byte

// describe answers with the description of the API.
func describe(w http.ResponseWriter, _ *http.Request, _ *call) {
	w.Header().Set("Content-Type", "application/yaml")
	_, _ = w.Write(openAPI) // the client may have gone
}
