"""The commands that need no screen: plain lines, or JSON; the same domain calls as the screens."""
