// What this agent has made of the guard: that it closed it to the end. The row in ha.state says that the guard is closed as
// soon as it is written; sessions that were let in before may go on until they are ended.
export class Gate {
  #shut = false;

  /** This agent has closed the guard, and whoever could still write then is gone. */
  get isShut(): boolean {
    return this.#shut;
  }

  /** `work` closes the guard and ends the sessions. It counts only if it is seen to succeed. */
  async shut<T>(work: Promise<T>): Promise<T> {
    const result = await work;
    this.#shut = true;
    return result;
  }

  /** From now on somebody may write. To be called before the guard is opened. */
  unlock(): void {
    this.#shut = false;
  }
}
