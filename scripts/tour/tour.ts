// What a run of the quickstart has made so far, so that it can be taken down from any point of the story.
import { rmSync } from "node:fs";
import type { Application } from "./application.ts";
import type { Link } from "./link.ts";
import type { TourNode } from "./node.ts";
import type { Place } from "./place.ts";

export class Tour {
  place: Place | undefined;
  primary: TourNode | undefined;
  secondary: TourNode | undefined;
  link: Link | undefined;
  application: Application | undefined;
  private closing: Promise<void> | undefined;

  /** The parts of a pair that is there. */
  pair(): { place: Place; primary: TourNode; secondary: TourNode; link: Link } {
    const { place, primary, secondary, link } = this;
    if (!place || !primary || !secondary || !link) throw new Error("the pair is not there yet");
    return { place, primary, secondary, link };
  }

  /** Stops everything and removes the folder. Throws what did not go well, after having done all of it. */
  close(): Promise<void> {
    this.closing ??= this.takeDown();
    return this.closing;
  }

  private async takeDown(): Promise<void> {
    const problems: string[] = [];
    const attempt = async (act: (() => Promise<unknown>) | undefined) => {
      try {
        await act?.();
      } catch (error) {
        problems.push(error instanceof Error ? error.message : String(error));
      }
    };
    const { application, secondary, primary, link, place } = this;
    await attempt(application && (() => application.stop()));
    // The secondary first, or it would take over.
    await attempt(secondary && (() => secondary.stop()));
    await attempt(primary && (() => primary.stop()));
    await attempt(link && (() => link.close()));
    if (place) rmSync(place.dir, { recursive: true, force: true, maxRetries: 5, retryDelay: 100 });
    if (problems.length) throw new Error(problems.join("; "));
  }

  lastLogs(): string[] {
    return [this.primary, this.secondary].filter((node) => node !== undefined).map((node) => ({
      node,
      log: node.lastLog(12),
    }))
      .filter(({ log }) => log !== "").map(({ node, log }) => `The last lines of the ${node.role}'s log:\n${log}`);
  }
}
