package command

import "testing"

// Events tell the zone of the Python side: that of the settings, unless this process was given one.
func TestEventsTellTheZoneOfTheSettings(t *testing.T) {
	broker := "CELERY_BROKER_URL=redis://"
	for _, tt := range []struct{ file, tz, want string }{
		{"{timezone: Europe/Berlin}", "", "Europe/Berlin"},
		{"{TIME_ZONE: Europe/Berlin}", "", "Europe/Berlin"},
		{"{timezone: Europe/Berlin}", "Asia/Tokyo", ""}, // the process's own
		{"", "", ""},
	} {
		t.Setenv("TZ", tt.tz)
		got := ""
		if cfg, _ := configure(t, tt.file, []string{broker}); cfg.Events.Zone != nil {
			got = cfg.Events.Zone.String()
		}
		if got != tt.want {
			t.Errorf("%s with TZ=%q: zone %q, want %q", tt.file, tt.tz, got, tt.want)
		}
	}
	cfg, _ := configure(t, "", []string{broker})
	if cfg.Events.Version != Version {
		t.Errorf("version %q", cfg.Events.Version)
	}
}
