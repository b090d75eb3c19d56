// A page that nobody sees costs nobody anything: after a minute it lets go of the connection, and where it is seen again
// it comes back to its place and is given what it missed.

const REST_AFTER_MS = 60_000;

export function restWhileHidden({ rest, wake }: { readonly rest: () => void; readonly wake: () => void }): void {
  let timer: ReturnType<typeof setTimeout> | undefined;
  let resting = false;
  document.addEventListener("visibilitychange", () => {
    clearTimeout(timer);
    if (document.hidden) {
      timer = setTimeout(() => {
        resting = true;
        rest();
      }, REST_AFTER_MS);
    } else if (resting) {
      resting = false;
      wake();
    }
  });
}
