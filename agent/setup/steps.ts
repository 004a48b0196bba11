// What setup tells while it works: each step with its time. Never prints by itself: the command line decides the form.

export interface Step {
  readonly name: string;
  readonly ms: number;
  /** What was found or made, in a few words. */
  readonly detail: string;
}

/** What was written and how fast: bytes and milliseconds in, whole megabytes out. */
export function rateText(bytes: number, ms: number): string {
  return `${Math.round(bytes / 1e6)} MB at ${Math.round(bytes / 1e3 / ms)} MB/s`;
}

export class Steps {
  readonly done: Step[] = [];

  constructor(
    private readonly onStep: (step: Step) => void = () => {},
    private readonly onProgress: (name: string, bytes: number, total: number) => void = () => {},
    private readonly onNote: (text: string) => void = () => {},
  ) {}

  /** Runs one step; what it returns as text is its detail. */
  async run<T>(name: string, work: () => Promise<T> | T, detail: (result: T) => string = () => ""): Promise<T> {
    const began = performance.now();
    const result = await work();
    const step = { name, ms: Math.round(performance.now() - began), detail: detail(result) };
    this.done.push(step);
    this.onStep(step);
    return result;
  }

  progress(name: string): (bytes: number, total: number) => void {
    return (bytes, total) => this.onProgress(name, bytes, total);
  }

  /** Something that whoever waits should know. */
  note(text: string): void {
    this.onNote(text);
  }
}
