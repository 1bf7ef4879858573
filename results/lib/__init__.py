"""What the commands in results/ share."""
