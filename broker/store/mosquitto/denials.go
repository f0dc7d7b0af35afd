package mosquitto

import "noctule/broker/store"

// Who may not be here is in the JSON too, in our words.

func denial(v *Visitor) func(*store.Denial) error {
	return func(r *store.Denial) error {
		return v.Denial(&Denial{r.Of.String(), r.Name, r.Since, r.Until, r.By, r.Reason})
	}
}

// denied puts one into the store.
func (i *importer) denied(d *Denial) error {
	for of := store.DenyToken; of <= store.DenyAddress; of++ {
		if d.Of != of.String() || d.Name == "" {
			continue
		}
		i.b.PutDenial(&store.Denial{
			Of: of, Name: d.Name, Since: d.Since, Until: d.Until, By: d.By, Reason: d.Reason,
		})
		i.report.Denials++
		return i.flush(batchBytes)
	}
	i.report.note("denial of %q, which is a %q", d.Name, d.Of)
	return nil
}
