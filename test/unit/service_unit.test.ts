// The systemd unit: the right paths and user, and no path that systemd would read otherwise.
import assert from "node:assert/strict";
import { test } from "node:test";
import { serviceUnit, unitWord } from "../../agent/setup/service_unit.ts";

const facts = {
  executable: "/usr/local/bin/agent",
  home: "/var/lib/hapair",
  user: null,
  pgdata: "/var/lib/hapair/data",
};

test("the unit of a node whose cluster the agent runs", () => {
  const unit = serviceUnit(facts);
  assert.match(unit, /^ExecStart=\/usr\/local\/bin\/agent run --home \/var\/lib\/hapair$/m);
  assert.match(unit, /^RequiresMountsFor=\/var\/lib\/hapair \/var\/lib\/hapair\/data$/m);
  assert.match(unit, /^KillMode=process$/m);
  assert.match(unit, /^Restart=always$/m);
  assert.doesNotMatch(unit, /^User=/m);
  assert.match(serviceUnit({ ...facts, user: "postgres" }), /^User=postgres$/m);
});

test("beside a server that somebody else runs it starts after that, and ends nothing of it", () => {
  const unit = serviceUnit({ ...facts, pgdata: null });
  assert.match(unit, /^After=network-online\.target postgresql\.service$/m);
  assert.match(unit, /^KillMode=process$/m);
  assert.match(unit, /^RequiresMountsFor=\/var\/lib\/hapair$/m);
});

test("words of a unit", () => {
  const words: [string, string][] = [
    ["/opt/ha-1.0/agent", "/opt/ha-1.0/agent"],
    ["/opt/with space", '"/opt/with space"'],
    ["/opt/50%", "/opt/50%%"],
    ["/opt/$HOME", "/opt/$$HOME"],
    ['/opt/a"b\\c', '"/opt/a\\"b\\\\c"'],
    ["/opt/ü;x", '"/opt/ü;x"'],
    ["", '""'],
  ];
  for (const [text, word] of words) assert.equal(unitWord(text), word);
  assert.match(serviceUnit({ ...facts, home: "/srv/$x" }), /RequiresMountsFor=\/srv\/\$x /);
});
