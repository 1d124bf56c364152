# Interactive shells on the consoles and through the guest agent.
PS1='\h \w # '
export PAGER=less LESS=-FRX
