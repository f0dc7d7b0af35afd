package conf

import (
	"errors"
	"fmt"
	"path/filepath"
	"strings"

	"noctule/broker"
	"noctule/broker/auth/goauth"
)

// plugin is a plugin line: Mosquitto loads a shared object, we run what it does if we have it built in.
type plugin struct {
	name, path string // name is "" unless it was given by plugin_load
	options    []pluginOption
	at         []Place

	passwords, acls SecurityFile // from the options
	goauth          *GoAuth
	deny            *bool // auth_plugin_deny_special_chars
}

// GoAuth is mosquitto-go-auth with its options.
type GoAuth struct {
	Config *goauth.Config
	Path   string // of the shared object
	at     []Place
}

// At is the line that names it.
func (g *GoAuth) At() []Place { return g.at }

// isGoAuth reports whether it is mosquitto-go-auth.
func (pl *plugin) isGoAuth() bool { return goauth.Base(filepath.Base(pl.path)) }

// option is one option of a plugin.
type pluginOption struct {
	arg
	at []Place
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
	p.plugin.options = append(p.plugin.options, pluginOption{arg{name, v}, p.where()})
	return nil
}

// denySpecial handles auth_plugin_deny_special_chars.
func denySpecial(p *parser, a arg) error {
	if p.plugin == nil {
		return fmt.Errorf("An %s option exists in the config file without a plugin.", a.key)
	}
	v, err := a.truth()
	if p.plugin.deny = &v; !p.plugin.isGoAuth() {
		p.warn("Warning: auth_plugin_deny_special_chars has no effect on this built-in plugin.")
	}
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
	if pl.isGoAuth() {
		return p.finishGoAuth(pl)
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

// finishGoAuth reads the options of mosquitto-go-auth. What is wrong with one is an error at its line.
func (p *parser) finishGoAuth(pl *plugin) error {
	var options []goauth.Option
	for _, o := range pl.options {
		options = append(options, goauth.Option{Name: o.key, Value: o.value})
	}
	cfg, problems := goauth.Read(options)
	for _, x := range problems {
		at := pl.at
		if x.Option >= 0 {
			at = pl.options[x.Option].at
		}
		if !x.Fatal {
			p.cfg.Notes = append(p.cfg.Notes, Note{"Warning: " + x.Text, broker.LevelWarning, at})
		} else if err := p.fail(&Error{Text: x.Text, Places: at}); err != nil {
			return err
		}
	}
	if cfg != nil {
		cfg.DenySpecial = pl.deny == nil || *pl.deny
		pl.goauth = &GoAuth{cfg, pl.path, pl.at}
	}
	return nil
}
