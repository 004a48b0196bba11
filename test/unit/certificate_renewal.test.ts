// Two homes, one of which changes its certificate: at every step, after any crash and any lost answer, what the one shows is
// what the other accepts; the former certificate goes once the new one has been seen in use, and not before.
import assert from "node:assert/strict";
import { copyFileSync, existsSync, mkdirSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { before, test } from "node:test";
import fc from "fast-check";
import { RefusedError, UsageError } from "../../agent/errors.ts";
import { type Home, homeAt } from "../../agent/home.ts";
import {
  fingerprint,
  type Identity,
  makeIdentity,
  readIdentity,
  writeIdentity,
} from "../../agent/trust/certificates.ts";
import { viewCertificates } from "../../agent/trust/certificate_view.ts";
import { joinCertificatePath, peerCertificatePath, tokenCertificatePath } from "../../agent/trust/join.ts";
import { pinnedPeers, takeAnnouncement } from "../../agent/trust/pins.ts";
import {
  afterAnswer,
  beginRenewal,
  endRenewal,
  finishAlone,
  packCertificate,
  readRenewal,
  renewalCertificate,
  renewalPaths,
  settleRenewal,
  switchIdentity,
} from "../../agent/trust/renewal.ts";
import { issue, makeAuthority } from "../helpers/authority.ts";
import { type Scope, scopedTest } from "../helpers/scope.ts";

const made: Identity[] = [];
before(async () => {
  for (let i = 0; i < 6; i++) made.push(await makeIdentity("a.example"));
});

function makeHomes(scope: Scope, name = "homes") {
  const [a, b] = ["a", "b"].map((node) => homeAt(join(scope.dir, name, node)));
  for (const home of [a, b]) mkdirSync(home.trustDir, { recursive: true, mode: 0o700 });
  writeIdentity(a.nodeCertificate, a.nodeKey, made[0]);
  writeIdentity(b.nodeCertificate, b.nodeKey, made[5]);
  writeFileSync(peerCertificatePath(b), made[0].cert);
  writeFileSync(peerCertificatePath(a), made[5].cert);
  return { a, b };
}

const shownBy = (home: Home) => fingerprint(readIdentity(home.nodeCertificate, home.nodeKey).cert);
const acceptedBy = (home: Home) => pinnedPeers(home).map((pem) => fingerprint(pem));

/** One call of the announcement; `answered` false: the answer is lost on its way. */
function announce(a: Home, b: Home, { answered = true, shown = shownBy(a) } = {}): void {
  const renewal = readRenewal(a);
  if (renewal === null) return;
  assert.ok(acceptedBy(b).includes(shown), "the peer does not know who announces");
  const { fingerprint, inUse } = takeAnnouncement(b, renewalCertificate(a, renewal), shown, Date.now());
  if (!answered) return;
  const step = afterAnswer(renewal, { fingerprint, in_use: inUse });
  if (step === "switch") switchIdentity(a);
  if (step === "end") endRenewal(a);
}

scopedTest("announced, used, seen in use: three steps", (scope) => {
  const { a, b } = makeHomes(scope);
  const prints = made.map(({ cert }) => fingerprint(cert));
  beginRenewal(a, made[1], new Date());
  assert.equal(viewCertificates(a).next?.fingerprint, prints[1]);
  assert.equal(shownBy(a), prints[0]);
  announce(a, b);
  assert.equal(shownBy(a), prints[1]);
  assert.deepEqual(acceptedBy(b), [prints[0], prints[1]], "both for an overlap");
  // A connection that is older than the switch shows the former one still.
  announce(a, b, { shown: prints[0] });
  assert.equal(readRenewal(a)?.phase, "switched");
  assert.deepEqual(acceptedBy(b), [prints[0], prints[1]]);
  assert.throws(() => beginRenewal(a, made[2], new Date()), RefusedError);
  announce(a, b);
  assert.equal(readRenewal(a), null);
  assert.deepEqual(acceptedBy(b), [prints[1]], "the former one is dropped");
  assert.throws(() => beginRenewal(a, made[1], new Date()), /it is the one in use/);
  return Promise.resolve();
});

scopedTest("whatever is lost, crashes or is begun anew, the two know each other", (scope) => {
  let run = 0;
  const step = fc.constantFrom("begin", "announce", "lost", "old connection", "crash in the switch", "restart");
  fc.assert(
    fc.property(
      fc.array(step, { maxLength: 25 }),
      fc.infiniteStream(fc.integer({ min: 1, max: 4 })),
      (steps, which) => {
        const { a, b } = makeHomes(scope, `run${run++}`);
        const formers = new Set([shownBy(a)]);
        for (const what of steps) {
          const before = shownBy(a);
          if (what === "begin") {
            try {
              beginRenewal(a, made[which.next().value as number], new Date());
            } catch (error) {
              assert.ok(error instanceof RefusedError);
            }
          } else if (what === "crash in the switch") crashInSwitch(a, b);
          else if (what === "restart") settleRenewal(a);
          else if (what === "old connection") {
            const former = [...formers].find((one) => acceptedBy(b).includes(one));
            announce(a, b, { shown: former ?? shownBy(a) });
          } else announce(a, b, { answered: what === "announce" });
          if (shownBy(a) !== before) formers.add(before);
          assert.ok(acceptedBy(b).includes(shownBy(a)), `after ${what} the peer does not accept what is shown`);
          assert.ok(acceptedBy(b).length <= 2);
        }
        for (let i = 0; i < 3; i++) announce(a, b);
        assert.equal(readRenewal(a), null);
        assert.deepEqual(acceptedBy(b), [shownBy(a)], "in the end one is left, the one that is shown");
      },
    ),
    { numRuns: 60 },
  );
  return Promise.resolve();
});

/** The power is cut after each of the moves in turn; the next start finds it so. */
function crashInSwitch(a: Home, b: Home): void {
  const renewal = readRenewal(a);
  if (renewal?.phase !== "announced") return;
  takeAnnouncement(b, renewalCertificate(a, renewal), shownBy(a), Date.now());
  const { state, cert, key } = renewalPaths(a);
  for (let moved = 0; moved <= 2; moved++) {
    const copy = homeAt(`${a.root}-crashed`);
    rmSync(copy.root, { recursive: true, force: true });
    mkdirSync(copy.trustDir, { recursive: true });
    const paths = renewalPaths(copy);
    copyFileSync(a.nodeCertificate, copy.nodeCertificate);
    copyFileSync(a.nodeKey, copy.nodeKey);
    copyFileSync(cert, paths.cert);
    copyFileSync(key, paths.key);
    writeFileSync(paths.state, JSON.stringify({ ...renewal, phase: "switching" }));
    if (moved > 0) renameSync(paths.key, copy.nodeKey);
    if (moved > 1) renameSync(paths.cert, copy.nodeCertificate);
    writeFileSync(joinCertificatePath(copy), made[4].cert);
    writeFileSync(tokenCertificatePath(copy), made[4].cert);
    settleRenewal(copy);
    for (const path of [joinCertificatePath(copy), tokenCertificatePath(copy)]) {
      assert.equal(existsSync(path), false, "a pack with the former certificate lets nobody in");
    }
    assert.equal(shownBy(copy), renewal.fingerprint);
    assert.equal(readRenewal(copy)?.phase, "switched");
  }
  writeFileSync(state, JSON.stringify({ ...renewal, phase: "switching" }));
  renameSync(key, a.nodeKey);
  settleRenewal(a);
}

scopedTest("without a peer it is replaced at once, and a pack made before lets nobody in", (scope) => {
  const { a } = makeHomes(scope);
  rmSync(peerCertificatePath(a));
  writeFileSync(joinCertificatePath(a), made[4].cert);
  beginRenewal(a, made[1], new Date());
  finishAlone(a);
  assert.equal(shownBy(a), fingerprint(made[1].cert));
  assert.equal(readRenewal(a), null);
  assert.equal(existsSync(joinCertificatePath(a)), false);
  finishAlone(a);
  assert.equal(shownBy(a), fingerprint(made[1].cert));
  return Promise.resolve();
});

scopedTest("a pack that the peer asks for cuts no renewal short: the two know each other at every step", (scope) => {
  const { a, b } = makeHomes(scope);
  beginRenewal(a, made[1], new Date());
  const packed = (askedBy: "peer" | "operator") => fingerprint(packCertificate(a, askedBy));
  const known = (phase: string | undefined) => {
    assert.equal(readRenewal(a)?.phase, phase);
    assert.equal(packed("peer"), shownBy(a), "the pack carries what is in use");
    assert.equal(readRenewal(a)?.phase, phase, "the renewal goes on where it was");
    assert.ok(acceptedBy(b).includes(shownBy(a)), `${phase}: the peer does not accept what is shown`);
  };
  known("announced");
  announce(a, b, { answered: false });
  known("announced");
  announce(a, b);
  known("switched");
  announce(a, b);
  known(undefined);

  // The peer is set up from a pack that was made before it saw the new one in use.
  beginRenewal(a, made[2], new Date());
  announce(a, b);
  writeFileSync(peerCertificatePath(b), packCertificate(a, "peer"));
  announce(a, b);
  assert.equal(readRenewal(a), null);
  assert.deepEqual(acceptedBy(b), [shownBy(a)]);

  beginRenewal(a, made[3], new Date());
  assert.equal(packed("operator"), fingerprint(made[3].cert), "who sets up anew gets the new one");
  assert.equal(readRenewal(a), null);
  return Promise.resolve();
});

scopedTest("a certificate of an authority is pinned itself, with its chain", async (scope) => {
  const { a, b } = makeHomes(scope);
  const { middle, chain } = await makeAuthority();
  const own = await issue({ names: ["a.example"], issuer: middle });
  beginRenewal(a, { cert: own.cert + chain, key: own.key }, new Date());
  announce(a, b);
  announce(a, b);
  assert.deepEqual(acceptedBy(b), [fingerprint(own.cert)]);
  assert.deepEqual(viewCertificates(b).peer?.chain, ["CN=internal servers", "CN=internal root"]);
});

scopedTest("what is not fit is not pinned", async (scope) => {
  const { a, b } = makeHomes(scope);
  const { middle, chain } = await makeAuthority();
  const shown = shownBy(a);
  const take = (text: string) => takeAnnouncement(b, text, shown, Date.now());
  const unfit: [string, RegExp][] = [
    ["", /no certificate is in it/],
    ["-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", /it is not a PEM certificate/],
    [(await issue({ names: ["a"], to: -0.5, from: -2 })).cert, /has expired/],
    [(await issue({ names: ["a"], issuer: middle })).cert, /whose certificate is not with it/],
    [middle.cert + chain, /of an authority/],
    [made[5].cert, /it is this node's own/],
    ["-----BEGIN CERTIFICATE-----\n".repeat(3700), /no certificate is in it/],
  ];
  for (const [text, message] of unfit) {
    assert.throws(() => take(text), (error: unknown) => {
      assert.ok(error instanceof UsageError || error instanceof RefusedError);
      assert.match(error.message, message);
      return true;
    });
    assert.deepEqual(acceptedBy(b), [shown]);
  }
});

test("the answer about another certificate changes nothing", () => {
  for (const phase of ["announced", "switching", "switched"] as const) {
    assert.equal(afterAnswer({ phase, fingerprint: "a" }, { fingerprint: "b", in_use: true }), "again");
  }
  assert.equal(afterAnswer({ phase: "announced", fingerprint: "a" }, { fingerprint: "a", in_use: false }), "switch");
  assert.equal(afterAnswer({ phase: "switched", fingerprint: "a" }, { fingerprint: "a", in_use: false }), "again");
  assert.equal(afterAnswer({ phase: "switched", fingerprint: "a" }, { fingerprint: "a", in_use: true }), "end");
});
