def stale(m):
    return []


def draw(m):
    return {}
