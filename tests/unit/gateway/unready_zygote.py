"""A trainers' process that is never ready and hears nothing, as one that imports torch."""

import time

if __name__ == "__main__":
    time.sleep(600)
