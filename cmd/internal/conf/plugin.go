package conf

import (
	"errors"
	"fmt"
	"path/filepath"
	"strings"
)

// plugin is a plugin line: Mosquitto loads a shared object, we run what it does if we have it built in.
type plugin struct {
	name, path string // name is "" unless it was given by plugin_load
	options    []arg
	at         []Place

	passwords, acls SecurityFile // from the options
}

// loadPlugin handles plugin, auth_plugin and global_plugin.
func loadPlugin(of func(*parser) *local) func(*parser, arg) error {
	return func(p *parser, a arg) error {
		if err := p.addPlugin("", a); err != nil {
			return err
		}
		l := of(p)
		l.plugins = append(l.plugins, p.plugin)
		return nil
	}
}

// namePlugin handles plugin_load: a name and a path.
func namePlugin(p *parser, a arg) error {
	name, err := a.word()
	if err != nil {
		return err
	}
	if p.findPlugin(name) != nil {
		return fmt.Errorf("Duplicate plugin name '%s'.", name)
	}
	_, path := a.cut()
	return p.addPlugin(name, path)
}

func (p *parser) addPlugin(name string, path arg) error {
	if path.value == "" {
		if name == "" {
			return path.empty()
		}
		return fmt.Errorf("Missing plugin path for plugin name '%s'.", name)
	}
	v, err := path.text()
	if err != nil {
		return err
	}
	p.plugin = &plugin{name: name, path: v, at: p.where()}
	p.plugins = append(p.plugins, p.plugin)
	return nil
}

func (p *parser) findPlugin(name string) *plugin {
	for _, pl := range p.plugins {
		if pl.name != "" && pl.name == name {
			return pl
		}
	}
	return nil
}

// usePlugin handles plugin_use.
func usePlugin(p *parser, a arg) error {
	name, err := a.text()
	if err != nil {
		return err
	}
	pl := p.findPlugin(name)
	if pl == nil {
		return fmt.Errorf("Plugin '%s' not previously loaded.", name)
	}
	p.plugin = pl
	p.current.own.plugins = append(p.current.own.plugins, pl)
	return nil
}

// setPluginOption handles plugin_opt_NAME and auth_opt_NAME.
func setPluginOption(p *parser, a arg) error {
	name := strings.TrimPrefix(strings.TrimPrefix(a.key, "plugin_opt_"), "auth_opt_")
	if len(name) < 3 {
		return errors.New("Invalid 'plugin_opt_' config option.")
	}
	a = a.named(name)
	v, err := a.text()
	if err != nil {
		return err
	}
	p.plugin.options = append(p.plugin.options, arg{name, v})
	return nil
}

// denySpecial handles auth_plugin_deny_special_chars.
func denySpecial(p *parser, a arg) error {
	if p.plugin == nil {
		return fmt.Errorf("An %s option exists in the config file without a plugin.", a.key)
	}
	_, err := a.truth()
	return err
}

// finishPlugins finds what runs in place of each shared object, by its base name. A plugin that we do not
// have stops the start: without it the broker could be open to everybody.
func (p *parser) finishPlugins() error {
	for _, pl := range p.plugins {
		if err := p.fail(p.finishPlugin(pl)); err != nil {
			return err
		}
	}
	return nil
}

func (p *parser) finishPlugin(pl *plugin) error {
	base := filepath.Base(pl.path)
	if name, ok := strings.CutSuffix(base, ".dll"); ok { // Mosquitto's on Windows
		base = name + ".so"
	}
	d, ok := p.table["plugin "+base]
	if !ok {
		text := fmt.Sprintf("Unable to load plugin \"%s\".", pl.path)
		return &Error{Text: text, Code: CodeMissing, Places: pl.at}
	}
	p.refuse(base, d, pl.at)
	to := map[string]*SecurityFile{"password_file": &pl.passwords, "acl_file": &pl.acls}[d.option]
	if to == nil {
		return nil
	}
	for _, o := range pl.options {
		if o.key == d.option {
			*to = SecurityFile{o.value, true, pl.at}
		}
	}
	if to.Path == "" {
		return &Error{Text: fmt.Sprintf("%s needs plugin_opt_%s.", base, d.option), Places: pl.at}
	}
	return nil
}
