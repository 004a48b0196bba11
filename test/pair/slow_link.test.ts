// The link comes back slow: most of a second one way, more than a heartbeat may take while all is well. A slow link is
// not a lost one: the two must find each other over it, make the secondary hand back, and end equal.
import { waitEqual } from "../helpers/equality.ts";
import { assertNoLeaks, makePair, waitSteady } from "../helpers/pair.ts";
import { scopedTest } from "../helpers/scope.ts";
import { changePassword, makeVault } from "../helpers/vault.ts";

scopedTest("a link that comes back slow is used all the same", async (scope) => {
  const pair = await makePair(scope, { link: true, load: makeVault });
  const { primary, secondary, link } = pair;
  for (const lane of [link.aToB, link.bToA]) {
    link.cut();
    await secondary.waitServing();
    await changePassword(secondary.app(pair.target), 1, 1);
    lane.delayMs = 700;
    link.heal();
    await secondary.waitStatus("back in sight of the primary", ({ node }) => node.state !== "serving");
    await waitSteady(pair);
    await changePassword(primary.app(pair.target), 2, 1);
    await waitEqual(primary.superuser, secondary.superuser);
    lane.delayMs = 0;
  }
  await assertNoLeaks(pair);
}, { timeoutMs: 180_000 });
